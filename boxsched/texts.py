"""Check text from outside."""


def encodable(text: str) -> bool:
    """Whether the text can be encoded as UTF-8: it contains no half of a surrogate pair.

    JSON can contain one as ``\\ud800``. In URLs, headers, file names and arguments, bytes that are
    not UTF-8 become such halves. Files, databases and terminals do not accept them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""Text from outside that is really text."""


def encodable(text: str) -> bool:
    """Whether it has no half of a surrogate pair.

    JSON can write one as ``\\ud800``; bytes that are not UTF-8 become some in URLs, headers, file
    names and arguments. No file, database or terminal takes them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

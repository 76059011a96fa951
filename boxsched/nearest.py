"""Suggest known words that are similar to an unknown word."""

import difflib
from collections.abc import Iterable

# longer ones are not compared, because the time grows with the product of the lengths
MAX_WORD_CHARACTERS = 64
MAX_KNOWN = 100  # at most this many are compared, if they come from outside
MAX_LISTED = 30


def nearest(word: str, known: Iterable[str], at_most: int = MAX_KNOWN) -> str:
    """Return ``did you mean branch?``, or a list of all known words, or an empty text."""
    words = [one for one in known if len(one) <= MAX_WORD_CHARACTERS]
    if len(word) <= MAX_WORD_CHARACTERS:
        near = difflib.get_close_matches(word, words[:at_most], n=3)
        if near:
            return f"did you mean {' or '.join(near)}?"
    if 0 < len(words) <= MAX_LISTED:
        return f"known: {', '.join(words)}"
    return ""


def unknown(what: str, word: str, known: Iterable[str], at_most: int = MAX_KNOWN) -> str:
    """Return a sentence that refuses a word: ``unknown field; did you mean branch?``."""
    hint = nearest(word, known, at_most)
    return f"{what}; {hint}" if hint else what

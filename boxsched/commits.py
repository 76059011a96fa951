"""The forms of a git commit's hash. Standard library only: supervisors import this module."""

import re

# A person may give the whole hash, or at least its first seven digits.
GIVEN = "[0-9a-fA-F]{7,64}"

_GIVEN = re.compile(GIVEN)
_REPORTED = re.compile("[0-9a-f]{7,64}")
_WHOLE = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def is_given(text: str) -> bool:
    """Whether a person may give this commit: 7 to 64 hexadecimal digits, in any case."""
    return _GIVEN.fullmatch(text) is not None


def is_reported(text: str) -> bool:
    """Whether a worker may report this commit: 7 to 64 hexadecimal digits, in lower case."""
    return _REPORTED.fullmatch(text) is not None


def is_whole(text: str) -> bool:
    """Whether it is a whole hash as git prints it, SHA-1 or SHA-256."""
    return _WHOLE.fullmatch(text) is not None

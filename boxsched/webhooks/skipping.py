"""Skip tags: texts in a commit's message that prevent its build."""

import re

SEARCHED_CHARACTERS = 65_536  # how much of a message's start and end is searched

# As GitHub, GitLab, Bitbucket and Gitea document them, ignoring case, and our own.
_TAG = re.compile(
    r"\[(?:skip ci|ci skip|no ci|skip boxsched|boxsched skip|skip actions|actions skip)\]", re.I
)
# A trailer, as GitHub documents it: a line of the message's last paragraph.
_TRAILER = re.compile(r"^skip-checks:[ \t]*true[ \t]*$", re.I | re.M)


def skip_tag(message: str | None) -> str | None:
    """Return the skip tag in a message, as it is written there, or None."""
    if message is None:
        return None
    found = _TAG.search(message, 0, SEARCHED_CHARACTERS)
    if found is None:
        end = message[-SEARCHED_CHARACTERS:].replace("\r\n", "\n").rstrip()
        _, gap, trailers = end.rpartition("\n\n")
        found = _TRAILER.search(trailers) if gap else None
    return found[0].strip() if found else None

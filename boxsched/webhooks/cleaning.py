"""Make texts from code hosts safe to store and to show.

Anyone who can push or open a pull request can write branch names, messages and author names. A
branch name that boxsched cannot use is refused with a reason; other texts are shortened.
"""

import re
from datetime import UTC, datetime
from urllib.parse import urlsplit

from boxsched.commits import is_given
from boxsched.errors import Invalid
from boxsched.model import MAX_MESSAGE_CHARACTERS, MAX_NAME_CHARACTERS
from boxsched.refs import check_branch, check_tag
from boxsched.texts import encodable

MAX_LINK_CHARACTERS = 2_048
NULL = "0" * 40  # stands for "no commit": the ref is new or was deleted
_LAST_SECOND = 253_402_300_799  # last second of the year 9999

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
# Control characters except newline and tab, and characters that change the direction of text.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LINE_ENDS = re.compile("\r\n?|\u2028|\u2029")
_SPACE = re.compile(r"\s+")
_ADDRESS = re.compile(r"\S@\S")
_LINK = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f\"'<>\\^`{|}]+")
_NULL = re.compile("0+")


def line(text: str, limit: int = MAX_NAME_CHARACTERS) -> str:
    """Return one line without control characters, of at most ``limit`` characters."""
    start = text[: 4 * limit]
    if not encodable(start):  # for headers that are not UTF-8
        start = start.encode("utf-8", "replace").decode()
    return _cut(_SPACE.sub(" ", _UNSHOWN.sub("", start)).strip(), limit)


def message(text: str | None) -> str | None:
    """Clean a commit's message or a title: keep newlines, but no other control characters."""
    if text is None:
        return None
    lines = _UNSHOWN.sub("", _LINE_ENDS.sub("\n", text[: 2 * MAX_MESSAGE_CHARACTERS]))
    return _cut(lines.strip(), MAX_MESSAGE_CHARACTERS) or None


def author(*names: str | None) -> str | None:
    """Return the first usable name, never an e-mail address, which is private."""
    for name in names:
        shown = line((name or "").partition("<")[0])
        if shown and not _ADDRESS.search(shown):
            return shown
    return None


def link(*urls: str | None) -> str | None:
    """Return the first http or https URL that a page may link to. A comparison with the null hash
    is skipped, because it does not exist.
    """
    for url in urls:
        if not url or len(url) > MAX_LINK_CHARACTERS or NULL in url:
            continue
        if _LINK.fullmatch(url) and _has_host(url):
            return url
    return None


def commit(text: str | None) -> str | None:
    """Return the hash in lower case; None for git's null hash and for other texts."""
    if text is None or not is_given(text) or is_null(text):
        return None
    return text.lower()


def is_null(text: str | None) -> bool:
    """Whether it is git's null hash: 40 or 64 zeros."""
    return text is not None and len(text) in (40, 64) and _NULL.fullmatch(text) is not None


def seconds(value: str | float | None) -> float | None:
    """Return a time in seconds since the epoch, from a number or an RFC 3339 text."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.removesuffix(" UTC")[:40])
            zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            value = zoned.timestamp()
        except (ValueError, OverflowError):
            return None
    return float(value) if 0 < value <= _LAST_SECOND else None


def branch_problem(name: str) -> str | None:
    """Return why boxsched cannot build a branch with this name; None if it can."""
    return _problem(name, "branch")


def tag_problem(name: str) -> str | None:
    return _problem(name, "tag")


def _problem(name: str, what: str) -> str | None:
    if not name:
        return f"the {what} has no name"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"the {what}'s name has more than {MAX_NAME_CHARACTERS} characters"
    if _CONTROLS.search(name):
        return f"the {what}'s name has control characters"
    if name.startswith("-"):
        return f"the {what}'s name begins with '-'"
    try:
        (check_branch if what == "branch" else check_tag)(name, what)
    except Invalid as error:
        return f"the {what}'s name cannot be used: {error.message}"
    return None


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.username is None
    except ValueError:  # an invalid port or IPv6 address
        return False

"""Makes texts that a code host passes on safe to store and to show.

Anyone who can push, or open a pull request, writes them: names of branches, messages, names of
persons. A name that boxsched cannot take is refused with a reason; other texts are cut.
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
NULL = "0" * 40  # the commit of a ref that is gone, or is new
_LAST_SECOND = 253_402_300_799  # of the year 9999

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
# Control characters but for newline and tab; and those that turn the direction of text around.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LINE_ENDS = re.compile("\r\n?|\u2028|\u2029")
_SPACE = re.compile(r"\s+")
_ADDRESS = re.compile(r"\S@\S")
_LINK = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f\"'<>\\^`{|}]+")
_NULL = re.compile("0+")


def line(text: str, limit: int = MAX_NAME_CHARACTERS) -> str:
    """One line without control characters, cut to ``limit`` characters."""
    start = text[: 4 * limit]
    if not encodable(start):  # headers that are not UTF-8
        start = start.encode("utf-8", "replace").decode()
    return _cut(_SPACE.sub(" ", _UNSHOWN.sub("", start)).strip(), limit)


def message(text: str | None) -> str | None:
    """A commit's message or a title: lines without other control characters."""
    if text is None:
        return None
    lines = _UNSHOWN.sub("", _LINE_ENDS.sub("\n", text[: 2 * MAX_MESSAGE_CHARACTERS]))
    return _cut(lines.strip(), MAX_MESSAGE_CHARACTERS) or None


def author(*names: str | None) -> str | None:
    """The first of the names that is one; never an e-mail address, which is nobody else's
    business."""
    for name in names:
        shown = line((name or "").partition("<")[0])
        if shown and not _ADDRESS.search(shown):
            return shown
    return None


def link(*urls: str | None) -> str | None:
    """The first that is an http or https URL that a page may link to; not a comparison with the
    null hash, which leads nowhere."""
    for url in urls:
        if not url or len(url) > MAX_LINK_CHARACTERS or NULL in url:
            continue
        if _LINK.fullmatch(url) and _has_host(url):
            return url
    return None


def commit(text: str | None) -> str | None:
    """The hash in lower case; None for what is none, and for git's null hash."""
    if text is None or not is_given(text) or is_null(text):
        return None
    return text.lower()


def is_null(text: str | None) -> bool:
    """Whether it is the hash that stands for "no such ref": 40 or 64 zeros."""
    return text is not None and len(text) in (40, 64) and _NULL.fullmatch(text) is not None


def seconds(value: str | float | None) -> float | None:
    """A time as seconds since the epoch: from RFC 3339 or alike, or as it is."""
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
    """Why boxsched cannot build a branch of this name; None where it can."""
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
    except ValueError:  # a port or an IPv6 address that is none
        return False

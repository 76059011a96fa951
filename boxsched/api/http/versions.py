"""``ETag``, ``If-Match`` and ``If-None-Match``: change something only in an expected version.

Weak tags count as strong ones, because a proxy that compresses an answer weakens its tag.
"""

from collections.abc import Collection

from aiohttp import ETag, web

from boxsched.errors import Invalid, Outdated

ANY = "*"


def set_etag(response: web.Response, tag: str) -> web.Response:
    """Set the answer's ETag."""
    response.etag = ETag(tag)
    return response


def check(request: web.Request, tag: str | None) -> None:
    """Raise Outdated if the headers name another version. ``tag``: the current one; None: none
    exists.
    """
    wanted = _tags(request, "If-Match", request.if_match)
    if wanted is not None and not _matches(wanted, tag):
        said = "it does not exist" if tag is None else "it has changed since: read it again"
        raise Outdated(said, "If-Match")
    unwanted = _tags(request, "If-None-Match", request.if_none_match)
    if unwanted is not None and _matches(unwanted, tag):
        raise Outdated("it exists already", "If-None-Match")


def _tags(
    request: web.Request, header: str, read: tuple[ETag, ...] | None
) -> Collection[str] | None:
    """Return the header's tags; None without the header. Raises Invalid if it has no tag."""
    if header not in request.headers:
        return None
    if not read:
        raise Invalid('must be *, or the ETag of an answer with its quotes: "3.1"', header)
    return [one.value for one in read]


def _matches(tags: Collection[str], tag: str | None) -> bool:
    return tag is not None and (tag in tags or ANY in tags)

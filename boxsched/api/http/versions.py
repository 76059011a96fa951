"""``ETag``, ``If-Match`` and ``If-None-Match``: changes that are made for one version only.

Weak tags count as strong ones: a proxy that packs an answer makes its tag a weak one.
"""

from collections.abc import Collection

from aiohttp import ETag, web

from boxsched.errors import Invalid, Outdated

ANY = "*"


def mark(response: web.Response, tag: str) -> web.Response:
    """Say of which version an answer is."""
    response.etag = ETag(tag)
    return response


def check(request: web.Request, tag: str | None) -> None:
    """Raises Outdated where the headers ask for another version; ``tag``: of what is there."""
    wanted = _tags(request, "If-Match", request.if_match)
    if wanted is not None and not _in(wanted, tag):
        said = "it is not there" if tag is None else "it has changed since: read it again"
        raise Outdated(said, "If-Match")
    unwanted = _tags(request, "If-None-Match", request.if_none_match)
    if unwanted is not None and _in(unwanted, tag):
        raise Outdated("it is there already", "If-None-Match")


def _tags(
    request: web.Request, header: str, read: tuple[ETag, ...] | None
) -> Collection[str] | None:
    """None where the header is not there. Raises Invalid where it holds no tag."""
    if header not in request.headers:
        return None
    if not read:
        raise Invalid('must be *, or the ETag of an answer with its quotes: "3.1"', header)
    return [one.value for one in read]


def _in(tags: Collection[str], tag: str | None) -> bool:
    return tag is not None and (tag in tags or ANY in tags)

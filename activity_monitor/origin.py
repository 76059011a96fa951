"""Check whether a browser's request comes from a page of this service."""

from aiohttp import web


def same_origin(request: web.Request, *, if_unsaid: bool) -> bool:
    """Whether the request's headers name this service as the page's origin.

    ``if_unsaid``: the answer for a request without these headers, such as a program's. True if the
    request itself proves its sender (a form with a token), False if only a cookie does.

    With ``Referrer-Policy: no-referrer`` a form sends ``Origin: null``, even to its own origin. So
    ``Sec-Fetch-Site`` has precedence, which browsers send over https and to loopback. For other
    addresses the page's script sends the form by ``fetch``, which contains the origin.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    if origin is None:
        return if_unsaid
    return origin.partition("://")[2] == request.host

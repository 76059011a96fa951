"""Whether a browser's request comes from a page of this service."""

from aiohttp import web


def same_origin(request: web.Request, *, if_unsaid: bool) -> bool:
    """Whether the request's headers name this service as the page's origin.

    ``if_unsaid`` is the answer for a request with neither header, as programs send it: True where
    the request itself proves who sends it (a form with a token), False where only a cookie does.

    Under ``Referrer-Policy: no-referrer`` a form sends ``Origin: null``, also to its own origin: so
    ``Sec-Fetch-Site`` counts first, which a browser sends over https and to loopback. Elsewhere the
    page's script sends the form by ``fetch``, which names the origin.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    if origin is None:
        return if_unsaid
    return origin.partition("://")[2] == request.host

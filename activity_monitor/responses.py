"""The answers of the page's routes, with security headers."""

from collections.abc import Mapping

from aiohttp import web

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def html(text: str, status: int = 200) -> web.Response:
    """Return a page that must not be cached, because it depends on the session."""
    response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
    response.headers.update(SECURITY_HEADERS)
    response.headers["Cache-Control"] = "no-store"
    return response


def to_the_page() -> web.Response:
    """Redirect (303) to the page, which the browser then requests by GET."""
    headers = {**SECURITY_HEADERS, "Location": "/", "Cache-Control": "no-store"}
    return web.Response(status=303, headers=headers)


def refused(status: int, message: str) -> web.Response:
    response = web.Response(status=status, text=message + "\n")
    response.headers.update(SECURITY_HEADERS)
    response.headers["Cache-Control"] = "no-store"
    return response

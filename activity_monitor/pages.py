"""The routes of the page: the page itself, signing in and out, static files."""

import html as html_text
import re
import urllib.parse

import attrs
from aiohttp import web

from activity_monitor.assets import Assets, load
from activity_monitor.origin import same_origin
from activity_monitor.packing import accepts_gzip
from activity_monitor.responses import SECURITY_HEADERS, html, refused, to_the_page
from activity_monitor.sessions import SESSION_COOKIE, NotForPeople, Sessions, SessionsAway

MAX_FORM_BYTES = 4_096
MAX_TOKEN_CHARACTERS = 512

_NOT_VALID = "This token is not valid. It may contain a space or belong to another service."
_OF_A_WORKER = "This token has the role worker, which is for machines. Sign in with another one."
_AWAY = "The service's database is not available at the moment. Try again soon."
_API = "/api/"
_WORKLOAD_PATH = re.compile(r"/(w[0-9]{1,19})")
_ONE_YEAR = "public, max-age=31536000, immutable"


@attrs.frozen
class View:
    """A page in addition to the lists. Each ``name`` has a module in ``static``."""

    name: str
    title: str

    @property
    def path(self) -> str:
        return f"/{self.name}"


VIEWS = (
    View("servers", "Servers"),
    View("schedules", "Schedules"),
    View("pauses", "Pauses"),
    View("deliveries", "Deliveries"),
    View("notifications", "Notifications"),
)


def links(current: str) -> str:
    """Return the links between the pages, as HTML."""
    pages = [("/", "Activity"), *((view.path, view.title) for view in VIEWS)]
    here = ' aria-current="page"'
    return "\n".join(
        f'<a href="{path}"{here if path == current else ""}>{title}</a>' for path, title in pages
    )


@attrs.frozen
class Pages:
    """The routes that a browser needs in addition to the API. The files are read once."""

    sessions: Sessions
    assets: Assets = attrs.field(factory=load)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.show),
            *(web.get(view.path, self.view) for view in VIEWS),
            web.get("/sign-in", self.to_the_page),
            web.post("/sign-in", self.sign_in),
            web.get("/sign-out", self.to_the_page),
            web.post("/sign-out", self.sign_out),
            web.get("/static/{version}/{name}", self.static),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Return the page to a signed-in browser, otherwise the sign-in form; status 200.

        If the session cannot be checked because the database is away, return the page: it contains
        no data, and its script shows that the service is away.
        """
        if not await self._signed_in(request):
            return self._form()
        return html(self.assets.page("monitor", nav=links("/")))

    async def view(self, request: web.Request) -> web.Response:
        """Like ``show``, for one of VIEWS."""
        if not await self._signed_in(request):
            return self._form()
        view = next(view for view in VIEWS if view.path == request.path)
        words = {"title": view.title, "view": view.name, "nav": links(view.path)}
        return html(self.assets.page("view", **words))

    async def _signed_in(self, request: web.Request) -> bool:
        session = request.cookies.get(SESSION_COOKIE)
        try:
            return bool(session) and await self.sessions.holds(session or "")
        except SessionsAway:
            return True

    def instead(self, request: web.Request, status: int) -> web.Response | None:
        """Return the HTML page that replaces a 401 or 404 answer in a browser.

        None if the answer stays as it is: for clients of the API, and for other statuses.
        """
        if not _is_browser(request):
            return None
        if status == 401:
            return self._form(401)
        if status != 404:
            return None
        workload = _WORKLOAD_PATH.fullmatch(request.path)
        words = {"address": "", "target": "the list"}
        if workload:
            words = {"address": f"#{workload[1]}", "target": f"{workload[1]} in the list"}
        return html(self.assets.page("not_found", **words), 404)

    async def to_the_page(self, request: web.Request) -> web.Response:
        """Redirect a GET of these paths, for example a reload after a failed sign-in."""
        return to_the_page()

    async def sign_in(self, request: web.Request) -> web.Response:
        if not same_origin(request, if_unsaid=True):
            return refused(403, "Signing in is possible only from this service's own page.")
        token = await _token(request)
        try:
            session = await self.sessions.sign_in(token) if token else None
        except NotForPeople:
            return self._form(403, _OF_A_WORKER)
        except SessionsAway:
            return self._form(503, _AWAY)
        if session is None:
            return self._form(401, _NOT_VALID)
        response = to_the_page()
        response.set_cookie(
            SESSION_COOKIE,
            session,
            httponly=True,
            samesite="Strict",
            path="/",
            secure=request.secure,
        )
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        if not same_origin(request, if_unsaid=True):
            return refused(403, "Signing out is possible only from this service's own page.")
        session = request.cookies.get(SESSION_COOKIE)
        try:
            if session:
                await self.sessions.sign_out(session)
        except SessionsAway:
            return refused(503, f"You are still signed in. {_AWAY}")
        response = to_the_page()
        response.del_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="Strict")
        return response

    async def static(self, request: web.Request) -> web.Response:
        """Return a static file. With another node's version in the path, it must not be cached."""
        file = self.assets.static.get(request.match_info["name"])
        if file is None:
            return refused(404, "There is no such file.")
        ours = request.match_info["version"] == self.assets.version
        headers = {
            **SECURITY_HEADERS,
            "ETag": f'W/"{file.etag}"',  # weak: the same for the compressed and the plain file
            "Vary": "Accept-Encoding",
            "Cache-Control": _ONE_YEAR if ours else "no-cache",
        }
        if any(tag.value in (file.etag, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = file.content_type
        if not accepts_gzip(request.headers.get("Accept-Encoding", "")):
            return web.Response(body=file.body, headers=headers)
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=file.packed, headers=headers)

    def _form(self, status: int = 200, problem: str = "") -> web.Response:
        return html(self.assets.page("sign_in", problem=html_text.escape(problem)), status)


def _is_browser(request: web.Request) -> bool:
    """Whether a user opened this address in a browser, outside of the API."""
    reads = request.method in ("GET", "HEAD")
    of_api = request.path.startswith(_API)
    return reads and not of_api and "text/html" in request.headers.get("Accept", "")


async def _token(request: web.Request) -> str | None:
    """Return the form's token, or None if the body is malformed, too long or without a token."""
    if request.content_type != "application/x-www-form-urlencoded":
        return None
    body = b""
    if request.transport is None:  # reading would raise an AssertionError in aiohttp
        raise ConnectionResetError("the browser closed the connection")
    try:
        while chunk := await request.content.read(MAX_FORM_BYTES):
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                return None
        fields = urllib.parse.parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
    except (web.RequestPayloadError, ValueError):
        return None
    token = fields.get("token", [""])[0].strip()
    fit = len(token) <= MAX_TOKEN_CHARACTERS and token.isascii() and token.isprintable()
    return token if fit else None

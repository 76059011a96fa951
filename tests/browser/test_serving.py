"""Answers of the page's own routes, without a browser and a service."""

import gzip
from collections.abc import AsyncIterator

import attrs
import pytest
from aiohttp import ClientResponse, CookieJar, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import activity_monitor
from activity_monitor.pages import MAX_FORM_BYTES

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ONE_CLIENT = [HealthCheck.function_scoped_fixture]  # it may serve every example
Client = TestClient[web.Request, web.Application]


@attrs.frozen
class OneToken:
    """Sessions in memory, for one valid token."""

    token: str = "a-good-token"
    open: set[str] = attrs.field(factory=set)
    away: list[bool] = attrs.field(factory=list)  # true if anything is in it

    def ask(self) -> None:
        if self.away:
            raise activity_monitor.SessionsAway

    async def sign_in(self, token: str) -> str | None:
        self.ask()
        if token != self.token:
            return None
        session = f"session-{len(self.open)}"
        self.open.add(session)
        return session

    async def holds(self, session_id: str) -> bool:
        self.ask()
        return session_id in self.open

    async def sign_out(self, session_id: str) -> None:
        self.ask()
        self.open.discard(session_id)


SESSIONS = web.AppKey("sessions", OneToken)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = web.Application()
    sessions = OneToken()
    app.add_routes(activity_monitor.Pages(sessions).routes())
    app[SESSIONS] = sessions
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def sign_in(client: Client, token: str = "a-good-token", **headers: str) -> ClientResponse:
    data = {"token": token}
    return await client.post("/sign-in", data=data, headers=headers, allow_redirects=False)


async def test_the_form_is_served_without_a_session_and_the_page_with_one(client: Client) -> None:
    before = await client.get("/")
    assert before.status == 200 and 'action="/sign-in"' in await before.text()
    answer = await sign_in(client, " a-good-token\n")
    assert answer.status == 303 and answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    assert "Secure" not in cookie
    after = await client.get("/")
    assert after.status == 200 and 'id="blocked"' in await after.text()
    assert after.headers["Cache-Control"] == "no-store"


async def test_a_wrong_token_shows_the_form_again(client: Client) -> None:
    answer = await sign_in(client, "<b>wrong</b>")
    assert answer.status == 401 and "Set-Cookie" not in answer.headers
    text = await answer.text()
    assert "not valid" in text and "wrong" not in text


async def test_only_a_trusted_proxy_can_report_https(client: Client) -> None:
    answer = await sign_in(client, **{"X-Forwarded-Proto": "https"})
    assert "Secure" not in answer.headers["Set-Cookie"]


async def test_signing_out_ends_the_session(client: Client) -> None:
    await sign_in(client)
    answer = await client.post("/sign-out", allow_redirects=False)
    assert answer.status == 303 and "Max-Age=0" in answer.headers["Set-Cookie"]
    assert 'action="/sign-in"' in await (await client.get("/")).text()


async def test_the_page_is_served_while_sessions_cannot_be_looked_up(client: Client) -> None:
    await sign_in(client)
    client.app[SESSIONS].away.append(True)
    page = await client.get("/")  # its script shows who is away
    assert page.status == 200 and 'id="blocked"' in await page.text()
    out = await client.post("/sign-out", allow_redirects=False)
    assert out.status == 503 and "still signed in" in await out.text()
    assert "Set-Cookie" not in out.headers
    again = await sign_in(client)
    assert again.status == 503 and "not available at the moment" in await again.text()
    client.session.cookie_jar.clear()
    assert 'action="/sign-in"' in await (await client.get("/")).text()
    client.app[SESSIONS].away.clear()


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),  # no browser
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),  # a form under no-referrer
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://example.invalid"}, False),
        ({"Origin": "http://HOST"}, True),
        ({"Origin": "https://HOST"}, True),  # a proxy ends TLS
    ],
)
async def test_only_our_own_page_signs_in_and_out(
    client: Client, path: str, headers: dict[str, str], allowed: bool
) -> None:
    host = f"{client.host}:{client.port}"
    headers = {name: value.replace("HOST", host) for name, value in headers.items()}
    data = {"token": "a-good-token"}
    answer = await client.post(path, data=data, headers=headers, allow_redirects=False)
    assert answer.status == (303 if allowed else 403)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"token",
        b"token=%00%ff%ed%a0%80",
        b"token=" + b"x" * MAX_FORM_BYTES,
        b"token=x&" * 400,
        b"\xff\xfe",
    ],
)
async def test_a_malformed_form_counts_as_a_wrong_token(client: Client, body: bytes) -> None:
    answer = await client.post("/sign-in", data=body, headers=FORM, allow_redirects=False)
    assert answer.status == 401


async def test_a_form_of_another_type_counts_as_a_wrong_token(client: Client) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain"):
        headers = {"Content-Type": kind}
        answer = await client.post("/sign-in", data=b"token=a-good-token", headers=headers)
        assert answer.status == 401


@pytest.mark.parametrize("body", [b"not gzip at all", gzip.compress(b"token=" + b"x" * 10_000_000)])
async def test_a_compressed_form_is_never_unpacked_completely(client: Client, body: bytes) -> None:
    headers = {**FORM, "Content-Encoding": "gzip"}
    answer = await client.post("/sign-in", data=body, headers=headers, allow_redirects=False)
    assert 400 <= answer.status < 500


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None, suppress_health_check=ONE_CLIENT)
async def test_any_bytes_cause_no_internal_error(client: Client, body: bytes) -> None:
    answer = await client.post("/sign-in", data=body, headers=FORM, allow_redirects=False)
    assert answer.status == 401


async def test_static_files_may_be_cached_for_ever_under_their_version(client: Client) -> None:
    text = await (await client.get("/")).text()
    path = next(word for word in text.split('"') if word.endswith("/base.css"))
    answer = await client.get(path)
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["Cache-Control"]
    again = await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304 and await again.read() == b""
    other_node = await client.get("/static/another-version/base.css")
    assert other_node.status == 200 and other_node.headers["Cache-Control"] == "no-cache"


async def test_static_files_are_compressed_for_clients_that_accept_it(client: Client) -> None:
    await sign_in(client)
    text = await (await client.get("/")).text()
    paths = {word for word in text.split('"') if word.startswith("/static/")}
    assert len(paths) > 20
    for path in paths:
        packed = await client.get(path, headers={"Accept-Encoding": "gzip"})
        plain = await client.get(path, headers={"Accept-Encoding": "identity"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert packed.headers["ETag"] == plain.headers["ETag"]
        assert await packed.read() == await plain.read()
        if int(plain.headers["Content-Length"]) > 2_000:
            assert packed.content_length is not None and plain.content_length is not None
            assert packed.content_length < 0.6 * plain.content_length


@pytest.mark.parametrize(
    "path", [f"/static/x/{name}" for name in ("nothing.js", "..%2fpages.py", "%2e%2e", "py.typed")]
)
async def test_other_files_are_not_served(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 404


async def test_every_answer_has_strict_security_headers(client: Client) -> None:
    answers = [await client.get(path) for path in ("/", "/static/x/app.js", "/static/x/none")]
    answers += [await sign_in(client), await sign_in(client, Origin="https://example.invalid")]
    for answer in answers:
        for name, value in activity_monitor.SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        assert len(answer.headers.getall("Content-Security-Policy")) == 1


async def test_the_page_has_no_inline_code(client: Client) -> None:
    await sign_in(client)
    text = await (await client.get("/")).text()
    form = await (await client.get("/", headers={"Cookie": "boxsched_session=none"})).text()
    for page in (text, form):
        assert "<style" not in page and " style=" not in page and " on" + "click" not in page
        assert all(" src=" in tag.partition(">")[0] for tag in page.split("<script")[1:])

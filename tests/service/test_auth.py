"""Who may do what: every route with every kind of caller, sessions, tokens, and headers of all
answers."""

import os
import stat
from pathlib import Path

import attrs
import pytest
from aiohttp import web

from activity_monitor import SECURITY_HEADERS, SESSION_COOKIE
from boxsched.api.app import application
from boxsched.api.auth import tokens
from boxsched.api.auth.rights import Open
from boxsched.api.routes import PAGE_POLICIES
from tests.service.running_service import API, Answer, RunningService

GOOD_FORM = tokens.new_token()  # well-formed, but never issued
BAD_TOKENS = {
    "empty": "Bearer ",
    "garbage": "Bearer garbage",
    "other scheme": "Basic YWRtaW46YWRtaW4=",
    "no scheme": GOOD_FORM,
    "of nobody": f"Bearer {GOOD_FORM}",
    "bad checksum": f"Bearer {GOOD_FORM[:-1]}-",
    "not ascii": "Bearer bxs_é",
    "raw bytes": "Bearer bxs_\udcff",
}


def public(method: str, path: str) -> bool:
    declared = {
        ("GET", "/healthz"): Open.EVERYONE,
        ("GET", "/readyz"): Open.EVERYONE,
        ("GET", "/metrics"): Open.THIS_MACHINE,
        ("POST", "/webhooks/{provider}/{project}"): Open.EVERYONE,
        ("POST", "/webhooks/{provider}/{organization}/{project}"): Open.EVERYONE,
        **PAGE_POLICIES,
    }
    return declared.get(("GET" if method == "HEAD" else method, path)) is not None


def routes(service: RunningService) -> list[tuple[str, str]]:
    found = [
        (route.method, route.resource.canonical)
        for route in service.runner.app.router.routes()
        if route.resource is not None
    ]
    assert len(found) > 20
    return found


def path_of(canonical: str) -> str:
    for name, value in (
        ("project", "web"), ("workload", "w1"), ("job", "w1-1"), ("version", "0"), ("name", "x.js"),
        ("token", "token-0"), ("provider", "github"), ("organization", "acme"),
    ):  # fmt: skip
        canonical = canonical.replace(f"{{{name}}}", value)
    return canonical


def check_headers(answer: Answer) -> None:
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get(name, "").startswith(value), (name, answer)


async def test_each_route_allows_only_its_kinds_of_callers(boxless_service: RunningService) -> None:
    for method, canonical in routes(boxless_service):
        path = path_of(canonical)
        for authorization in (None, *BAD_TOKENS.values()):
            headers = {} if authorization is None else {"Authorization": authorization}
            answer = await raw(boxless_service, method, path, headers)
            open_ = public(method, canonical)
            # The sign-in form returns its own 401 for a wrong token in the form.
            closed = answer.status == 401 and "WWW-Authenticate" in answer.headers
            assert closed != open_, (method, path, authorization, answer)
            check_headers(answer)
            if closed:
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert method == "HEAD" or answer.error["code"] == "unauthorized"


async def raw(service: RunningService, method: str, path: str, headers: dict[str, str]) -> Answer:
    """aiohttp's client refuses to send some headers; the server must still handle them."""
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    host = f"Host: 127.0.0.1:{service.port}"
    lines = [f"{method} {path} HTTP/1.1", host, "Connection: close", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    found = dict(line.split(": ", 1) for line in head[1:] if line)
    body = b""
    if found.get("Content-Length") and method != "HEAD":
        body = await reader.readexactly(int(found["Content-Length"]))
    writer.close()
    return Answer(int(head[0].split()[1]), found, body)


async def test_paths_without_a_route_require_a_token(boxless_service: RunningService) -> None:
    for path in ("/nothing", API, f"{API}/", f"{API}/nothing", "/api/v2/workloads", "/.env"):
        assert (await boxless_service.call("GET", path, token=None)).status == 401, path
        answer = await boxless_service.call("GET", path)
        assert (answer.status, answer.error["code"]) == (404, "not_found")
        check_headers(answer)
    answer = await boxless_service.call("PATCH", f"{API}/projects/web")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert "PUT" in answer.headers["Allow"]
    assert (await boxless_service.call("PATCH", f"{API}/projects/web", token=None)).status == 401


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/w99999", 'href="/#w99999"'),
        ("/web-99", 'href="/"'),
        ("/no/such/path?x=1", 'href="/"'),
        ("/w1%22%3E%3Cscript%3E", 'href="/"'),
        ("/static/", 'href="/"'),
    ],
)
async def test_a_browser_at_an_unknown_address_gets_a_page(
    boxless_service: RunningService, path: str, leads_to: str
) -> None:
    cookie = {"Cookie": f"boxsched_session={await sign_in(boxless_service)}"}
    answer = await boxless_service.call("GET", path, token=None, headers=BROWSER | cookie)
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    check_headers(answer)
    text = answer.body.decode()
    assert "There is no such page" in text and leads_to in text and "<script" not in text
    form = await boxless_service.call("GET", path, token=None, headers=BROWSER)
    assert form.status == 401 and 'action="/sign-in"' in form.body.decode()
    # A client that asks for JSON gets JSON, and so does a browser below /api.
    assert (await boxless_service.call("GET", path)).error["code"] == "not_found"
    of_api = await boxless_service.call("GET", f"{API}{path}", headers=BROWSER)
    assert (of_api.status, of_api.error["code"]) == (404, "not_found")
    other_method = await boxless_service.call("POST", path, token=None, headers=BROWSER)
    assert (other_method.status, other_method.error["code"]) == (401, "unauthorized")


async def test_reloading_after_signing_out_leads_to_the_page(
    boxless_service: RunningService,
) -> None:
    for path in ("/sign-in", "/sign-out"):
        answer = await boxless_service.call("GET", path, token=None, headers=BROWSER)
        assert (answer.status, answer.headers["Location"]) == (303, "/")


async def test_bearer_in_any_spelling_is_accepted(service: RunningService) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {service.token}"}
        assert (await service.call("GET", f"{API}/boxes", headers=headers)).status == 200


async def test_a_route_without_a_policy_stops_the_start(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    import activity_monitor

    async def surprise(request: web.Request) -> web.Response:
        raise AssertionError

    ours = activity_monitor.Pages.routes
    monkeypatch.setattr(
        activity_monitor.Pages, "routes", lambda self: [*ours(self), web.get("/new", surprise)]
    )
    with pytest.raises(KeyError):
        application(service.node)


# --- Sessions -------------------------------------------------------------------------------


async def sign_in(service: RunningService, token: str | None = None) -> str:
    answer = await service.call(
        "POST",
        "/sign-in",
        data={"token": token or service.token},
        token=None,
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status == 303
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    return cookie.split(";")[0].split("=", 1)[1]


async def test_a_session_may_read_and_change_from_our_own_page(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web")
    cookie = {"Cookie": f"{SESSION_COOKIE}={await sign_in(boxless_service)}"}

    async def build(**headers: str) -> int:
        answer = await boxless_service.call(
            "POST",
            f"{API}/projects/web/builds",
            {"branch": "x"},
            token=None,
            headers={**cookie, **headers},
        )
        return answer.status

    assert (
        await boxless_service.call("GET", f"{API}/activity", token=None, headers=cookie)
    ).status == 200
    assert await build(**{"Sec-Fetch-Site": "same-origin"}) == 201
    assert await build(Origin=boxless_service.url) == 201
    assert await build() == 403
    for site in ("cross-site", "same-site", "none"):
        assert await build(**{"Sec-Fetch-Site": site}) == 403, site
    for origin in (
        "http://evil.example",
        "null",
        "",
        f"http://127.0.0.1:{boxless_service.port + 1}",
    ):
        assert await build(Origin=origin) == 403, origin
    assert await build(**{"Sec-Fetch-Site": "cross-site", "Origin": boxless_service.url}) == 403
    # Another site cannot make a browser send a token in the header.
    assert (
        await build(
            **{
                "Sec-Fetch-Site": "cross-site",
                "Authorization": f"Bearer {boxless_service.token}",
            }
        )
        == 201
    )


async def test_a_session_ends(boxless_service: RunningService) -> None:
    first, second = await sign_in(boxless_service), await sign_in(boxless_service)
    assert first != second
    cookie = {"Cookie": f"{SESSION_COOKIE}={first}"}
    gone = await boxless_service.call(
        "POST", "/sign-out", token=None, headers={**cookie, "Sec-Fetch-Site": "same-origin"}
    )
    assert gone.status == 303
    assert (
        await boxless_service.call("GET", f"{API}/boxes", token=None, headers=cookie)
    ).status == 401
    for bad in ("", "x", "x" * 5000, "\x01", "%00", 'a"b'):
        headers = {"Cookie": f"{SESSION_COOKIE}={bad}"}
        if bad.isprintable():
            answer = await boxless_service.call("GET", f"{API}/boxes", token=None, headers=headers)
            assert answer.status == 401


async def test_a_session_ends_with_its_token(tmp_path: Path) -> None:
    async with RunningService.open(tmp_path / "data") as service:
        cookie = {"Cookie": f"{SESSION_COOKIE}={await sign_in(service)}"}
    async with RunningService.open(tmp_path / "data") as service:  # it outlives the node
        assert (await service.call("GET", f"{API}/boxes", token=None, headers=cookie)).status == 200
    (tmp_path / "data" / "admin-token").unlink()
    async with RunningService.open(tmp_path / "data") as service:
        assert (await service.call("GET", f"{API}/boxes", token=None, headers=cookie)).status == 401


async def test_the_store_holds_no_session_and_no_token_in_clear_text(
    service: RunningService,
) -> None:
    session = await sign_in(service)
    folder = service.node.options.data
    kept = b"".join(path.read_bytes() for path in folder.glob("*sqlite*") if path.is_file())
    assert session.encode() not in kept
    assert service.token.encode() not in kept


async def test_signing_in_with_an_invalid_token_is_refused(service: RunningService) -> None:
    for token in ("x", GOOD_FORM, service.token[:-1] + "-", service.token + "x"):
        answer = await service.call("POST", "/sign-in", data={"token": token}, token=None)
        assert answer.status == 401
        assert "Set-Cookie" not in answer.headers
        check_headers(answer)


async def test_the_page_without_a_session_shows_the_sign_in_form(service: RunningService) -> None:
    answer = await service.call("GET", "/", token=None)
    assert answer.status == 200
    assert b"sign-in" in answer.body
    check_headers(answer)


# --- The token and its file -----------------------------------------------------------------


def test_the_token_file_is_created_once_and_is_private(tmp_path: Path) -> None:
    first = tokens.admin_token(tmp_path / "data")
    assert tokens.admin_token(tmp_path / "data") == first
    path = tmp_path / "data" / "admin-token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == first + "\n"
    assert os.listdir(tmp_path / "data") == ["admin-token"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    tokens.admin_token(tmp_path)
    (tmp_path / "admin-token").chmod(mode)
    with pytest.raises(tokens.UnsafeToken, match="chmod 600"):
        tokens.admin_token(tmp_path)


@pytest.mark.parametrize("text", ["", "x", "bxs_", "bxs_" + "a" * 49, "\0" * 53, "é" * 53])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "admin-token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(tokens.UnsafeToken, match="does not contain a token"):
        tokens.admin_token(tmp_path)


def test_tokens_are_long_and_checked() -> None:
    made = {tokens.new_token() for _ in range(100)}
    assert len(made) == 100
    for token in made:
        assert token.startswith("bxs_")
        assert tokens.looks_real(token)
        for place in range(len(token)):
            other = "1" if token[place] == "0" else "0"
            assert not tokens.looks_real(token[:place] + other + token[place + 1 :])


def test_a_value_with_a_token_in_it_does_not_show_it(tmp_path: Path) -> None:
    kept = tokens.of_file(tmp_path, "node", 0.0)
    token = tokens.admin_token(tmp_path)
    assert kept.digest == tokens.digest(token)
    assert kept.digest not in repr(kept)
    assert token not in repr(attrs.asdict(kept))

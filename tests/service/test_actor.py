"""The name recorded for a stop: the token's name, else the kind of access."""

from boxsched.api.auth.actor import actor_of
from boxsched.store.records import Token
from tests.service.running_service import API, RunningService, stop


def token(id_: str, name: str) -> Token:
    return Token(id_, "digest", "admin", name, 0.0)


def test_a_named_token_is_shown_by_its_name_and_another_by_its_role_or_the_page() -> None:
    ada, nameless = token("token-1", "Ada"), token("token-2", "")
    of_file = token("file-3", "admin-token of node n")
    for by_session in (False, True):
        assert actor_of(ada, by_session=by_session) == "Ada"
    for one in (nameless, of_file):
        assert actor_of(one, by_session=False) == "admin"
        assert actor_of(one, by_session=True) == "page"


async def test_a_stop_by_the_page_is_recorded_as_page(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    signed_in = await boxless_service.call(
        "POST",
        "/sign-in",
        data={"token": boxless_service.token},
        headers={"Sec-Fetch-Site": "same-origin"},
        token=None,
    )
    cookie = signed_in.headers["Set-Cookie"].partition(";")[0]
    path = f"{API}/workloads/{made['id']}/stop"
    page = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    answer = await boxless_service.call("POST", path, headers=page, token=None)
    assert (answer.status, answer.json["reason"]) == (202, "canceled by page")


async def test_a_stop_with_a_named_token_records_its_name(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    asked = {"role": "admin", "name": "CI of web"}
    made = await boxless_service.call("POST", f"{API}/tokens", asked)
    build = await boxless_service.build()
    path = f"{API}/workloads/{build['id']}/stop"
    answer = await boxless_service.call("POST", path, token=made.json["token"])
    assert answer.json["reason"] == "canceled by CI of web"
    assert [job["reason"] for job in answer.json["jobs"]] == ["canceled by CI of web"]
    said = await boxless_service.get(f"/workloads/{build['id']}/explanation")
    assert said["text"] == "It was canceled by CI of web."
    assert (await stop(boxless_service, build["id"])).status == 409

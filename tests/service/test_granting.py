"""Who may create, see and revoke which tokens, and when a token was last used."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from boxsched.api.auth.last_use import NOTED_SECONDS, LastUses
from boxsched.errors import StoreAway
from boxsched.store.records import Token
from tests.service.running_service import API, PATIENCE_SECONDS, Answer, RunningService
from tests.service.test_scopes import read, token_for


async def create(service: RunningService, token: str, **asked: object) -> Answer:
    return await service.call("POST", f"{API}/tokens", asked, token=token)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"role": "king"}, "role"),
        ({"role": "viewer", "projects": "web"}, "projects"),
        ({"role": "viewer", "projects": []}, "projects"),
        ({"role": "viewer", "projects": [""]}, "projects[0]"),
        ({"role": "viewer", "projects": ["web"] * 101}, "projects"),
        ({"role": "viewer", "projects": ["*" * 255] * 17}, "projects"),
        ({"role": "viewer", "servers": ["a", 1]}, "servers[1]"),
        ({"role": "viewer", "servers": ["a\n"]}, "servers[0]"),
        ({"role": "viewer", "organization": "acme"}, "organization"),
        ({"role": "viewer", "max_workers": 2}, "max_workers"),
        ({"role": "worker", "projects": ["web"]}, "projects"),
        ({"role": "worker", "servers": ["web"]}, "servers"),
    ],
)
async def test_a_wrong_field_is_named(
    boxless_service: RunningService, asked: dict[str, Any], field: str
) -> None:
    answer = await create(boxless_service, "", **asked)
    assert (answer.status, answer.error["field"]) == (422, field)


@pytest.mark.parametrize(
    ("own", "asked", "field"),
    [
        ({"projects": ["web*"]}, {"projects": ["web-a", "web-?", "web*"]}, None),
        ({"projects": ["web*"]}, {"projects": ["web"], "servers": ["s"]}, None),
        ({"projects": ["web*"]}, {}, "projects"),
        ({"projects": ["web*"]}, {"projects": ["*"]}, "projects"),
        ({"projects": ["web*"]}, {"projects": ["web", "api"]}, "projects"),
        ({"projects": ["web*"]}, {"projects": ["we*"]}, "projects"),
        ({"projects": ["web", "api"]}, {"projects": ["api"]}, None),
        ({"servers": ["staging"]}, {"servers": ["staging"]}, None),
        ({"servers": ["staging"]}, {"servers": ["*"]}, "servers"),
        ({"servers": ["staging"]}, {"projects": ["web"]}, "servers"),
        ({"organization": "default"}, {"organization": "default"}, None),
        ({"organization": "default"}, {}, None),  # also the organization's
        ({}, {}, None),
    ],
)
async def test_nobody_grants_more_than_the_own_scope(
    boxless_service: RunningService, own: dict[str, Any], asked: dict[str, Any], field: str | None
) -> None:
    admin = await token_for(boxless_service, "admin", **own)
    for role in ("viewer", "admin"):
        answer = await create(boxless_service, admin, role=role, **asked)
        if field is None:
            assert answer.status == 201, answer.body
        else:
            assert (answer.status, answer.error["field"]) == (403, field)


async def test_only_an_admin_without_limits_creates_a_workers_token(
    boxless_service: RunningService,
) -> None:
    """A worker runs the jobs of all projects, and gets their secrets."""
    for own, status in (
        ({}, 201),
        ({"organization": "default"}, 201),
        ({"projects": ["*"]}, 403),
        ({"servers": ["s"]}, 403),
    ):
        admin = await token_for(boxless_service, "admin", **own)
        answer = await create(boxless_service, admin, role="worker")
        assert answer.status == status, own
        assert status == 201 or answer.error["field"] == "role"


async def test_an_admin_sees_and_revokes_only_tokens_within_the_own_scope(
    boxless_service: RunningService,
) -> None:
    service = boxless_service
    for name, asked in (
        ("instance", {"role": "viewer"}),
        ("organization", {"role": "viewer", "organization": "default"}),
        ("web", {"role": "viewer", "projects": ["web"]}),
        ("api", {"role": "viewer", "projects": ["api"]}),
        ("worker", {"role": "worker"}),
        ("of-web", {"role": "admin", "projects": ["web*"]}),
        ("of-default", {"role": "admin", "organization": "default"}),
    ):
        assert (await create(service, "", name=name, **asked)).status == 201
    listed = (await service.get("/tokens"))["tokens"]
    ids = {one["name"]: one["id"] for one in listed}
    web = await token_for(service, "admin", projects=["web*"], name="me")
    default = await token_for(service, "admin", organization="default", name="me")
    for token, names in (
        (web, {"web", "of-web", "me"}),
        (default, {"organization", "worker", "of-default", "me"}),
    ):
        shown = (await read(service, token, "/tokens"))["tokens"]
        assert {one["name"] for one in shown} == names
        for name, id_ in ids.items():
            answer = await service.call("DELETE", f"{API}/tokens/{id_}", token=token)
            assert answer.status == (204 if name in names else 404), name


async def test_a_token_shows_its_role_and_limits(boxless_service: RunningService) -> None:
    asked = {"role": "developer", "name": "ci", "projects": ["web"], "servers": ["staging", "q*"]}
    made = (await create(boxless_service, "", **asked)).json
    own, listed = (await boxless_service.get("/tokens"))["tokens"]
    for shown in (made, listed):
        assert asked.items() <= shown.items()
        assert (shown["organization"], shown["last_used_at"]) == (None, None)
        assert (shown["max_workers"], shown["bound"]) == (None, False)
    assert (own["projects"], own["servers"], own["role"]) == (None, None, "admin")


# --- Last use -------------------------------------------------------------------------------


async def test_the_last_use_of_a_token_is_shown(service: RunningService) -> None:
    made = (await create(service, "", role="viewer")).json
    await read(service, made["token"], "/boxes")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            shown = {one["id"]: one for one in (await service.get("/tokens"))["tokens"]}
            if shown[made["id"]]["last_used_at"] is not None:
                break
            await asyncio.sleep(0.02)
    assert shown[made["id"]]["last_used_at"] >= made["created_at"]


class Writes:
    """A store that records what is noted; ``away``: it refuses."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.away = False

    async def tokens_used(self, ids: Collection[str], seconds: float) -> None:
        assert seconds == NOTED_SECONDS
        if self.away:
            raise StoreAway("away")
        self.written.append(list(ids))


def of(id_: str, used: float | None = None) -> Token:
    return Token(id_, f"digest {id_}", "viewer", "", 0.0, last_used_at=used)


async def test_a_use_is_noted_once_in_a_minute() -> None:
    now, store = 1_000.0, Writes()
    uses = LastUses(store, lambda: now)
    for _ in range(3):
        uses.note(of("a"))
    uses.note(of("b", used=now - 10))  # another node has noted it
    uses.note(of("c", used=now - 100))
    assert await uses.run_once() == 2
    assert store.written == [["a", "c"]]
    now += NOTED_SECONDS - 1
    uses.note(of("a"))
    assert await uses.run_once() == 0
    now += 1
    uses.note(of("a", used=1_000.0))
    assert await uses.run_once() == 1
    assert store.written == [["a", "c"], ["a"]]


async def test_uses_are_noted_again_after_the_store_was_away() -> None:
    now, store = 1_000.0, Writes()
    uses = LastUses(store, lambda: now)
    store.away = True
    uses.note(of("a"))
    assert await uses.run_once() == 1 and not store.written
    store.away = False
    now += NOTED_SECONDS
    uses.note(of("a"))
    assert await uses.run_once() == 1 and store.written == [["a"]]

"""Signatures and secrets of deliveries, on SQLite and on PostgreSQL."""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from boxsched.secrets.ring import KeyRing, new_key
from tests.contract.postgres_server import database, served
from tests.service.code_hosts import (
    COMMIT,
    SECRET,
    listed,
    push,
    secured,
    send,
    sent,
    signed,
)
from tests.service.running_service import API, RunningService


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with served() as server:
        yield server.url("postgres")


@pytest.fixture(params=["sqlite", "postgres"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningService]:
    """No Boxes, so builds wait; one project with a secret."""
    if request.param == "sqlite":
        async with RunningService.open(tmp_path / "data", boxes=0) as opened:
            await secured(opened)
            yield opened
        return
    with database(request.getfixturevalue("postgres")) as url:
        async with RunningService.open(tmp_path / "data", boxes=0, database=url) as opened:
            await _with_key(opened)
            yield opened


async def _with_key(service: RunningService) -> None:
    object.__setattr__(service.node.vault, "ring", KeyRing.of(new_key(), "a test"))
    await secured(service)


# --- Signatures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "provider",
    ["github", "gitlab", "bitbucket", "bitbucket-server", "gitea", "forgejo", "gogs", "generic"],
)
async def test_unsigned_deliveries_are_refused_in_the_same_way(
    service: RunningService, provider: str
) -> None:
    body = json.dumps(push()).encode()
    right = signed(provider, body)
    await service.project("open")  # without a secret
    refused = []
    for project, headers in (
        ("web", {}),
        ("web", signed(provider, body, "another")),
        ("web", {name: value[:-1] for name, value in right.items()}),
        ("web", {name: value + "é" for name, value in right.items()}),
        ("open", right),
        ("nobody", right),
        ("No+Name", right),
        ("x" * 300, right),
    ):
        sent_to = f"/webhooks/{provider}/{project}"
        answer = await service.call("POST", sent_to, data=body, headers=headers, token=None)
        refused.append((answer.status, answer.body))
    assert {status for status, _ in refused} == {401}
    assert len({body for _, body in refused}) == 1
    assert await listed(service) == []


async def test_a_generic_delivery_that_is_too_old_is_refused_because_of_its_timestamp(
    service: RunningService,
) -> None:
    body = json.dumps({"branch": "main"}).encode()
    now, before = str(int(time.time())), str(int(time.time()) - 301)
    for timestamp, status in ((before, 401), (now, 200)):
        mac = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, "sha256").hexdigest()
        headers = {"X-Boxsched-Timestamp": timestamp, "X-Boxsched-Signature": f"sha256={mac}"}
        answer = await service.call(
            "POST", "/webhooks/generic/web", data=body, headers=headers, token=None
        )
        assert answer.status == status
        assert (b"X-Boxsched-Timestamp is not within 300 s" in answer.body) == (status == 401)


async def test_a_node_whose_machine_slept_goes_by_the_databases_clock(
    service: RunningService,
) -> None:
    """The monotonic clock, which a node's own time is made of, stands still meanwhile."""
    service.node.clock.set_to(service.node.clock.now() - 3_600)
    done = await sent(service, {"branch": "main", "commit": COMMIT}, provider="generic")
    assert done["result"] == "created"


async def test_a_signature_covers_the_raw_bytes(service: RunningService) -> None:
    body = json.dumps(push()).encode()
    answer = await send(service, body + b" ", headers=signed("github", body))
    assert answer.status == 401


async def test_an_unknown_provider_gets_404(service: RunningService) -> None:
    answer = await service.call("POST", "/webhooks/sourceforge/web", data=b"{}", token=None)
    assert answer.status == 404


async def test_the_previous_secret_is_valid_together_with_the_new_one(
    service: RunningService,
) -> None:
    await service.project(webhook_secret="the next one")
    for secret in (SECRET, "the next one"):
        assert (await sent(service, push(), secret=secret))["result"] == "created"
    await service.project(webhook_secret="the next but one")
    assert (await send(service, push())).status == 401
    assert (await send(service, push(), secret="the next one")).status == 200
    await service.project(webhook_secret=None)
    for secret in ("the next one", "the next but one"):
        assert (await send(service, push(), secret=secret)).status == 401


async def test_setting_the_same_secret_again_ends_no_rotation(service: RunningService) -> None:
    """As `project apply` does again and again."""
    for _ in range(3):
        await service.project(webhook_secret="the next one")
    assert (await send(service, push())).status == 200


async def test_the_former_secret_ends_after_a_day(service: RunningService) -> None:
    await service.project(webhook_secret="the next one")
    assert (await send(service, push())).status == 200
    project = await service.node.store.project("web")
    assert project is not None
    assert project.webhook_secret_until is not None
    hours = (project.webhook_secret_until - service.node.clock.now()) / 3_600
    assert 23.9 < hours < 24.1
    service.node.clock.set_to(project.webhook_secret_until + 1)
    assert (await send(service, push())).status == 401
    assert (await send(service, push(), secret="the next one")).status == 200


async def test_both_secrets_are_sealed_again_with_another_key(service: RunningService) -> None:
    await service.project(webhook_secret="the next one")
    old = service.node.vault.ring
    assert old is not None
    key = new_key()
    new = KeyRing.of(f"{key} {base64.b64encode(old.keys[old.first]).decode()}", "a test")
    object.__setattr__(service.node.vault, "ring", new)
    after: str | None = ""
    while after is not None:
        asked = {"after": after} if after else {}
        answer = await service.call("POST", f"{API}/secrets/rotate", asked)
        assert answer.status == 200, answer.body
        after = answer.json["next"]
    object.__setattr__(service.node.vault, "ring", KeyRing.of(key, "a test"))
    for secret in (SECRET, "the next one"):
        assert (await sent(service, push(), secret=secret))["result"] == "created"


async def test_a_former_secret_that_cannot_be_opened_leaves_the_new_one_valid(
    service: RunningService,
) -> None:
    object.__setattr__(service.node.vault, "ring", KeyRing.of(new_key(), "a test"))
    await service.project(webhook_secret="the next one")
    assert (await sent(service, push(), secret="the next one"))["result"] == "created"
    assert (await send(service, push())).status == 401


async def test_a_node_without_the_key_refuses_and_logs_it_once(
    service: RunningService, caplog: pytest.LogCaptureFixture
) -> None:
    object.__setattr__(service.node.vault, "ring", KeyRing.of(new_key(), "a test"))
    for _ in range(3):
        assert (await send(service, push())).status == 401
    said = [one for one in caplog.records if "webhooks of project" in one.getMessage()]
    assert len(said) == 1
    assert SECRET not in caplog.text

"""Secrets of a project over the API: set, listed, deleted, sealed again; values are never
returned."""

import asyncio
import logging
from pathlib import Path

import pytest

from boxsched.node.sealing import Sealing, Unopened
from boxsched.secrets.ring import KeyRing, new_key
from boxsched.secrets.vault import Vault, key_of
from boxsched.store.steps.secrets import GIT_CREDENTIALS, SECRET, WEBHOOK_SECRET
from tests.service.running_service import API, RunningService

CANARY = "canary-5f1c-value"
SECRETS = f"{API}/projects/web/secrets"


async def test_a_secret_is_created_replaced_listed_and_deleted(service: RunningService) -> None:
    await service.project()
    made = await service.call("PUT", f"{SECRETS}/TOKEN", {"value": CANARY})
    assert (made.status, made.json["version"], made.json["file"]) == (201, 1, False)
    assert made.json["masked"] is True
    replaced = await service.call("PUT", f"{SECRETS}/TOKEN", {"value": CANARY, "file": True})
    assert (replaced.status, replaced.json["version"]) == (200, 2)
    await service.call("PUT", f"{SECRETS}/PIN", {"value": "123"})
    listed = await service.call("GET", SECRETS)
    assert [(one["name"], one["file"], one["version"]) for one in listed.json["secrets"]] == [
        ("PIN", False, 1),
        ("TOKEN", True, 2),
    ]
    assert set(listed.json["secrets"][0]) == {"name", "file", "version", "updated_at"}
    assert CANARY.encode() not in made.body + replaced.body + listed.body
    assert (await service.call("DELETE", f"{SECRETS}/PIN")).status == 204
    assert (await service.call("DELETE", f"{SECRETS}/PIN")).status == 404
    assert [one["name"] for one in (await service.get("/projects/web/secrets"))["secrets"]] == [
        "TOKEN"
    ]


async def test_a_value_too_short_to_be_masked_causes_a_warning(
    service: RunningService,
) -> None:
    await service.project()
    assert (await service.call("PUT", f"{SECRETS}/A", {"value": "abc"})).json["masked"] is False
    assert (await service.call("PUT", f"{SECRETS}/B", {"value": "abcd"})).json["masked"] is True


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("BOXSCHED_TOKEN", {"value": CANARY}, "name"),
        ("1A", {"value": CANARY}, "name"),
        ("A-B", {"value": CANARY}, "name"),
        ("A", {"value": ""}, "value"),
        ("A", {"value": CANARY + "\0"}, "value"),
        ("A", {"value": CANARY * 5_000}, "value"),
        ("A", {"value": "é" * 40_000}, "value"),
        ("A", {"value": 5}, "value"),
        ("A", {}, "value"),
        ("A", {"value": CANARY, "file": "yes"}, "file"),
        ("A", {"value": CANARY, "other": 1}, "other"),
    ],
)
async def test_bad_input_names_the_field_and_never_the_value(
    service: RunningService, name: str, body: object, field: str
) -> None:
    await service.project()
    answer = await service.call("PUT", f"{SECRETS}/{name}", body)
    assert (answer.status, answer.error["field"]) == (422, field)
    assert b"canary" not in answer.body


async def test_the_number_and_the_size_of_a_projects_secrets_have_limits(
    service: RunningService,
) -> None:
    await service.project()
    value = "v" * 65_536
    answers = [await service.call("PUT", f"{SECRETS}/A{n}", {"value": value}) for n in range(5)]
    assert [answer.status for answer in answers] == [201] * 4 + [422]
    assert answers[-1].error["field"] == "value"
    replaced = await service.call("PUT", f"{SECRETS}/A1", {"value": value})
    assert replaced.status == 200, "its own former value does not count"


async def test_an_unknown_project_is_404(service: RunningService) -> None:
    for method, path, body in (
        ("PUT", "/projects/none/secrets/A", {"value": CANARY}),
        ("PUT", "/projects/NO NAME/secrets/A", {"value": CANARY}),
        ("GET", "/projects/none/secrets", None),
        ("DELETE", "/projects/none/secrets/A", None),
    ):
        assert (await service.call(method, API + path.replace(" ", "%20"), body)).status == 404


async def test_a_node_without_a_key_says_what_to_do(service: RunningService) -> None:
    await service.project()
    vault, ring = service.node.vault, service.node.vault.ring
    object.__setattr__(vault, "ring", None)
    answer = await service.call("PUT", f"{SECRETS}/A", {"value": CANARY})
    refused = await service.project(webhook_secret=CANARY)
    object.__setattr__(vault, "ring", ring)
    for one in (answer, refused):
        assert (one.status, one.error["code"]) == (409, "secrets_unusable")
        assert "--secrets-key-file" in one.error["message"]


async def stored(service: RunningService) -> list[tuple[str, str]]:
    """Return (name, sealed text) of all values."""
    places = (SECRET, WEBHOOK_SECRET, GIT_CREDENTIALS)
    return [
        (one.name, one.text)
        for place in places
        for one in await service.node.store.sealed_texts(place, (0, ""), "-", 1_000)
    ]


async def test_a_rotation_seals_everything_with_the_first_key(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    file = tmp_path / "keys"
    file.write_text(old)
    file.chmod(0o600)
    async with RunningService.open(tmp_path / "data", secrets_key_file=file) as service:
        await service.project(
            webhook_secret=CANARY,
            repository="https://example.org/web",
            git_credentials={"https_token": "canary"},
        )
        for number in range(5):
            await service.call("PUT", f"{SECRETS}/A{number}", {"value": f"{CANARY}{number}"})
        first = service.node.vault.first
        assert {key_of(text) for _, text in await stored(service)} == {first}
    file.write_text(f"{new}\n{old}")
    async with RunningService.open(tmp_path / "data", secrets_key_file=file) as service:
        assert {key_of(text) for _, text in await stored(service)} == {first}
        resealed, after = 0, None
        while True:
            step = (await service.call("POST", f"{API}/secrets/rotate", {"after": after})).json
            assert step["unusable"] == []
            resealed += step["resealed"]
            if (after := step["next"]) is None:
                break
        assert resealed == 7
        assert {key_of(text) for _, text in await stored(service)} == {service.node.vault.first}
    file.write_text(new)
    async with RunningService.open(tmp_path / "data", secrets_key_file=file) as service:
        vault = service.node.vault
        ((name, text), *_) = await stored(service)
        assert vault.open("project/1", name, 1, text) == f"{CANARY}0"
        step = (await service.call("POST", f"{API}/secrets/rotate", {})).json
        assert (step["resealed"], step["unusable"]) == (0, [])


async def test_a_plain_webhook_secret_of_an_earlier_version_is_sealed_at_the_start(
    tmp_path: Path,
) -> None:
    async with RunningService.open(tmp_path) as service:
        await service.project()
        await service.node.store.put_project(
            "web", "{}", None, {WEBHOOK_SECRET: lambda project, version: CANARY}
        )
    async with RunningService.open(tmp_path) as service:
        await Sealing(service.node.store, service.node.vault).adopt()
        ((_, text),) = await stored(service)
        assert service.node.vault.open("project/1", WEBHOOK_SECRET, 1, text) == CANARY


async def test_a_value_that_cannot_be_opened_is_named_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(new_key())
    file.chmod(0o600)
    async with RunningService.open(tmp_path / "data", secrets_key_file=file) as service:
        await service.project()
        await service.call("PUT", f"{SECRETS}/A", {"value": CANARY})
        before = await stored(service)
    file.write_text(new_key())
    async with RunningService.open(tmp_path / "data", secrets_key_file=file) as service:
        step = (await service.call("POST", f"{API}/secrets/rotate", {})).json
        assert (step["resealed"], step["unusable"]) == (0, ["project 1: A"])
        assert await stored(service) == before


class Warned(logging.Handler):
    """The first warning, as an event."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.set_result(record.getMessage())


@pytest.mark.parametrize("has_other_key", [False, True])
async def test_a_node_that_cannot_open_what_is_stored_warns_at_its_start(
    service: RunningService, has_other_key: bool
) -> None:
    vault = Vault(KeyRing.of(new_key(), "test") if has_other_key else None)
    await service.project()
    idle = Sealing(service.node.store, vault)
    assert await idle.adopt() == Unopened(), "there is nothing yet"
    await service.project(
        webhook_secret=CANARY,
        repository="https://example.org/web",
        git_credentials={"https_token": CANARY},
    )
    await service.call("PUT", f"{SECRETS}/A", {"value": CANARY})
    warned = Warned()
    logger = logging.getLogger("boxsched.node.sealing")
    logger.addHandler(warned)
    task = asyncio.create_task(idle.run())
    try:
        said = await asyncio.wait_for(warned.said, 30)
    finally:
        logger.removeHandler(warned)
        task.cancel()
    has = "lacks a key" if has_other_key else "has no key for secrets"
    key = service.node.vault.first[:16]
    assert said.startswith(
        f"this node {has}, and the database has values that are sealed (git_credentials, secrets, "
        f"webhook_secret; keys {key}): jobs, webhooks and notifications"
    )
    assert "--secrets-key-file FILE or BOXSCHED_SECRETS_KEY" in said
    assert CANARY[:8] not in said


async def test_a_plain_value_is_no_reason_to_warn_and_never_shown(service: RunningService) -> None:
    await service.project()
    await service.node.store.put_project(
        "web", "{}", None, {WEBHOOK_SECRET: lambda project, version: CANARY}
    )
    assert await Sealing(service.node.store, Vault(None)).adopt() == Unopened()
    assert [text for _, text in await stored(service)] == [CANARY], "without a key it stays"


@pytest.mark.parametrize("after", ["", "x", "9:1:A", "0:x:A", "0"])
async def test_a_rotation_starts_only_after_the_one_before_has_ended(
    service: RunningService, after: str
) -> None:
    answer = await service.call("POST", f"{API}/secrets/rotate", {"after": after})
    assert (answer.status, answer.error["field"]) == (422, "after")

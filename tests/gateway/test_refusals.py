"""Which refusals of workers are noted in the history, and how often."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from boxsched.errors import StoreAway
from boxsched.gateway import refusals as module
from boxsched.gateway.refusals import NOTED, REPEAT_SECONDS, SCHEMA, RefusalLog
from boxsched.model import DEFAULT_ORGANIZATION, OrganizationId
from boxsched.protocol.inbox import RefusedWorker
from boxsched.protocol.shards import SHARD


def refused(token: str = "token-1", code: str = "token_taken") -> RefusedWorker:
    return RefusedWorker("w", token, "192.0.2.7", code, "why")


class Noted:
    """A log of refusals, and what it asked for. ``schemas``: of the nodes; None: no store."""

    def __init__(self, *schemas: int | None) -> None:
        self.schemas: tuple[int | None, ...] | None = schemas
        self.asked: list[tuple[int, Any]] = []
        self.log = RefusalLog(cast(Any, self), self._ask)

    async def nodes(self) -> list[SimpleNamespace]:
        if self.schemas is None:
            raise StoreAway("away for the test")
        return [SimpleNamespace(schema=schema) for schema in self.schemas]

    async def organization(self, id: OrganizationId) -> SimpleNamespace:
        return SimpleNamespace(shard=SHARD + id - DEFAULT_ORGANIZATION)

    async def _ask(self, shard: int, command: Any) -> None:
        self.asked.append((shard, command))


@pytest.fixture
async def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loop's clock: its last entry."""
    clock = [0.0]
    loop = SimpleNamespace(time=lambda: clock[-1])
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
    return clock


async def test_a_refusal_is_noted_in_the_history_of_its_organization() -> None:
    noted = Noted(SCHEMA)
    await noted.log.note(refused(), OrganizationId(3))
    assert noted.asked == [(SHARD + 2, refused())]


async def test_refusals_because_of_a_token_or_an_identity_are_noted() -> None:
    noted = Noted(SCHEMA)
    for code in (*NOTED, "full", "version"):
        await noted.log.note(refused(code=code))
    assert noted.asked == [(SHARD, refused(code=code)) for code in NOTED]


async def test_each_is_noted_again_only_after_a_while(seconds: list[float]) -> None:
    noted = Noted(SCHEMA)
    for at, codes in (
        (0.0, ["conflict", "token_taken"]),
        (REPEAT_SECONDS - 1, ["conflict"]),
        (REPEAT_SECONDS, ["conflict"]),
        (REPEAT_SECONDS + 1, ["conflict"]),
    ):
        seconds.append(at)
        for code in codes:
            await noted.log.note(refused(code=code))
    await noted.log.note(refused("token-2", "conflict"))
    assert [(command.token, command.code) for _, command in noted.asked] == [
        ("token-1", "conflict"),
        ("token-1", "token_taken"),
        ("token-1", "conflict"),
        ("token-2", "conflict"),
    ]


async def test_nothing_is_noted_while_an_earlier_version_may_lead() -> None:
    for schema in (None, SCHEMA - 1):
        noted = Noted(SCHEMA, schema)
        await noted.log.note(refused())
        assert noted.asked == []


async def test_what_could_not_be_noted_is_noted_by_the_next_try() -> None:
    noted = Noted(SCHEMA)
    noted.schemas = None
    await noted.log.note(refused())
    noted.schemas = (SCHEMA + 1,)
    await noted.log.note(refused())
    await noted.log.note(refused())
    assert noted.asked == [(SHARD, refused())]


async def test_a_limited_number_is_remembered_the_newest(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float]
) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    noted = Noted(SCHEMA)
    for token in ("a", "b", "c", "c", "b", "a"):
        await noted.log.note(refused(token))
    assert [command.token for _, command in noted.asked] == ["a", "b", "c", "a"]

"""What a node knows of the organizations: recent, and never from before its own changes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from boxsched.errors import StoreAway
from boxsched.model import OrganizationId
from boxsched.node.organizations import FRESH_SECONDS, KnownOrganizations
from tests.organizations import organization

ACME = attrs.evolve(organization(), id=OrganizationId(2), name="acme", shard=2)


class Database:
    """``gate``: reads wait for it, after they have seen the rows."""

    def __init__(self) -> None:
        self.rows = [organization()]
        self.reads = 0
        self.away = False
        self.now = 100.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.known = KnownOrganizations(SimpleNamespace(organizations=self.read), lambda: self.now)  # type: ignore[arg-type]

    async def read(self) -> list[Any]:
        self.reads += 1
        if self.away:
            raise StoreAway("for the test")
        seen = list(self.rows)
        await self.gate.wait()
        return seen


async def test_the_list_is_read_once_until_it_is_old() -> None:
    there = Database()
    assert await there.known.all() == there.rows == await there.known.all()
    assert (there.reads, there.known.several) == (1, False)
    there.now += FRESH_SECONDS
    there.rows.append(ACME)
    assert await there.known.all() == there.rows
    assert (there.reads, there.known.several) == (2, True)


async def test_an_unknown_one_is_looked_for_again() -> None:
    there = Database()
    await there.known.all()
    there.now += 0.1
    there.rows.append(ACME)
    assert await there.known.named("acme") == ACME
    assert await there.known.find(ACME.id) == ACME
    assert await there.known.named("other") is None, "not again at once"
    assert there.reads == 2


async def test_those_who_look_at_the_same_time_share_one_reading() -> None:
    there = Database()
    await there.known.all()
    there.now += 0.1
    there.rows.append(ACME)
    found = await asyncio.gather(
        *(there.known.named(name) for name in ("acme", "other", "acme", "third"))
    )
    assert found == [ACME, None, ACME, None]
    assert there.reads == 2


async def test_what_was_being_read_when_it_changed_does_not_count() -> None:
    there = Database()
    there.gate.clear()
    before = asyncio.create_task(there.known.all())
    while not there.reads:  # noqa: ASYNC110 (the read sets no event)
        await asyncio.sleep(0)
    there.rows.append(ACME)
    there.known.forget()
    after = asyncio.create_task(there.known.named("acme"))
    while there.reads < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    there.gate.set()
    assert await after == ACME
    assert await before == there.rows, "it reads again, too"
    assert there.known.several


async def test_while_the_store_is_away_an_older_list_is_used() -> None:
    there = Database()
    there.away = True
    with pytest.raises(StoreAway):
        await there.known.all()
    there.away = False
    await there.known.all()
    there.away, there.now = True, there.now + 60.0
    assert await there.known.all() == there.rows

"""Which tokens hold: over a real store, with its answers counted, held up or cut off."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.api.auth import known_tokens, tokens
from boxsched.api.auth.known_tokens import KnownTokens
from boxsched.errors import StoreAway
from boxsched.store import Store, open_store
from boxsched.store.records import Token

NOW = 1_800_000_000.0


class Wire:
    """The way to a store, on which questions are counted, and can be held up or cut off."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked: list[str] = []
        self.away = False
        self.open = asyncio.Event()
        self.open.set()

    async def token(self, digest: str) -> Token | None:
        self.asked.append(digest)
        await self.open.wait()
        if self.away:
            raise StoreAway("cut off")
        return await self.store.token(digest)

    async def tokens(self) -> list[Token]:
        if self.away:
            raise StoreAway("cut off")
        return await self.store.tokens()


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.wire = Wire(store)
        self.seconds = 1_000.0
        self.now = NOW
        self.known = KnownTokens(self.wire, lambda: self.now, lambda: self.seconds)

    async def make(self, role: str = "admin", expires_at: float | None = None) -> str:
        text = tokens.new_token()
        sha256 = tokens.digest(text)
        id_ = tokens.token_id(tokens.MADE, sha256)
        await self.store.put_token(Token(id_, sha256, role, "", NOW, expires_at))
        return text

    async def revoke(self, text: str) -> None:
        assert await self.store.revoke_token(tokens.token_id(tokens.MADE, tokens.digest(text)))

    async def holds(self, text: str) -> bool:
        return await self.known.find(text) is not None

    async def settled(self) -> None:
        """The look-ups that go on behind the answers have ended."""
        await asyncio.gather(*self.known._asking.values())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = open_store(f"sqlite:///{tmp_path}/tokens.sqlite", tmp_path)
    await store.open()
    made = World(store)
    yield made
    made.wire.open.set()
    await made.known.close()
    await store.close()


async def test_a_session_has_the_same_holder_on_every_node(world: World) -> None:
    text = await world.make("worker")
    other = KnownTokens(world.store, lambda: NOW)
    one, two = await world.known.find(text), await other.find(text)
    assert one is not None
    assert two is not None
    assert one.principal == two.principal
    assert one.principal.startswith("worker:")
    assert text not in repr(one)
    assert tokens.digest(text) not in repr(one)
    await other.close()


async def test_a_malformed_token_is_never_looked_up(world: World) -> None:
    good = await world.make()
    last = "0" if good[-1] != "0" else "1"
    for text in ("", "x", "bxs_", good[:-1], good[:-1] + last, good + "x", good.lower(), "é" * 53):
        assert not await world.holds(text)
    assert world.wire.asked == []


async def test_one_look_up_serves_all_callers(world: World) -> None:
    text = await world.make()
    assert all(await asyncio.gather(*(world.holds(text) for _ in range(100))))
    world.seconds += known_tokens.FRESH_SECONDS * 0.9
    assert await world.holds(text)
    assert len(world.wire.asked) == 1


async def test_a_token_in_use_is_looked_up_after_the_answers(world: World) -> None:
    text = await world.make()
    assert await world.holds(text)
    world.wire.open.clear()
    world.seconds += known_tokens.FRESH_SECONDS + 0.001
    for _ in range(50):
        assert await world.holds(text)  # without a wait
    world.wire.open.set()
    await world.settled()
    assert len(world.wire.asked) == 2


async def test_a_revoked_token_ends_within_a_second(world: World) -> None:
    """Also where its last look-up was under way at that moment."""
    used, unused = await world.make(), await world.make()
    assert await world.holds(used)
    assert await world.holds(unused)
    await world.revoke(used)
    await world.revoke(unused)
    world.seconds += known_tokens.FRESH_SECONDS + 0.001
    await world.known.find(used)
    await world.settled()
    assert not await world.holds(used)
    world.seconds += known_tokens.HOLDS_SECONDS + 0.001
    assert not await world.holds(unused)
    assert known_tokens.HOLDS_SECONDS < 1


async def test_revoked_through_this_node_it_ends_at_once(world: World) -> None:
    text = await world.make()
    assert await world.holds(text)
    await world.revoke(text)
    world.known.forget(tokens.token_id(tokens.MADE, tokens.digest(text)))
    assert not await world.holds(text)


async def test_an_expired_token_ends_in_that_instant(world: World) -> None:
    text = await world.make(expires_at=NOW + 60)
    assert await world.holds(text)
    world.now = NOW + 59.999
    assert await world.holds(text)
    world.now = NOW + 60
    assert not await world.holds(text)
    assert await world.known.still_valid({tokens.digest(text)}) == set()
    assert len(world.wire.asked) == 1


async def test_recently_valid_tokens_stay_valid_while_the_store_is_away(world: World) -> None:
    text, stranger, expiring = (
        await world.make(),
        await world.make(),
        await world.make(expires_at=NOW + 1),
    )
    assert await world.holds(text)
    assert await world.holds(expiring)
    world.wire.away = True
    for _ in range(10):
        world.seconds += 1
        assert await world.holds(text)
        with pytest.raises(StoreAway):
            await world.holds(stranger)
    world.now += 1
    assert not await world.holds(expiring)
    world.seconds += known_tokens.AWAY_SECONDS + 0.001
    with pytest.raises(StoreAway):
        await world.holds(text)
    world.wire.away = False
    assert await world.holds(text)
    assert await world.holds(stranger)


async def test_an_unknown_token_is_not_refused_by_an_outdated_answer(world: World) -> None:
    """It may have been made since: while nobody can tell, it is a 503."""
    text = tokens.new_token()
    assert not await world.holds(text)
    world.wire.away = True
    assert not await world.holds(text)
    world.seconds += known_tokens.HOLDS_SECONDS + 0.001
    with pytest.raises(StoreAway):
        await world.holds(text)


async def test_a_store_that_hangs_delays_no_caller_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(known_tokens, "HELD_PATIENCE_SECONDS", 0.05)
    text, stranger = await world.make(), await world.make()
    assert await world.holds(text)
    world.wire.open.clear()
    world.seconds += 1
    async with asyncio.timeout(10):
        assert await world.holds(text)
        with pytest.raises(StoreAway):
            await world.holds(stranger)
    monkeypatch.setattr(known_tokens, "HELD_PATIENCE_SECONDS", 1_000.0)
    async with asyncio.timeout(10):
        assert await world.holds(text)  # it hung a moment ago: nobody waits for it again
    world.wire.open.set()
    await world.settled()
    assert await world.holds(stranger)


async def test_the_number_of_unknown_tokens_in_memory_is_limited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(known_tokens, "UNKNOWN_AT_MOST", 20)
    monkeypatch.setattr(known_tokens, "KEPT_AT_MOST", 10)
    text = await world.make()
    assert await world.holds(text)
    world.wire.open.clear()
    flood = [world.known.find(tokens.new_token()) for _ in range(100)]
    refused = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(one, StoreAway) for one in refused)
    assert len(world.wire.asked) == 1 + known_tokens.UNKNOWN_AT_ONCE
    world.wire.open.set()
    await world.settled()
    assert len(world.known._unknown) == 10
    world.seconds += known_tokens.FRESH_SECONDS + 0.001
    assert await world.holds(text)  # and those that hold stay known
    await world.settled()
    assert len(world.wire.asked) == 1 + 20 + 1


async def test_one_query_returns_the_tokens_that_are_still_valid(world: World) -> None:
    stays, goes = await world.make(), await world.make()
    both = {tokens.digest(stays), tokens.digest(goes)}
    assert await world.known.still_valid(both) == both
    await world.revoke(goes)
    assert await world.known.still_valid(both) == {tokens.digest(stays)}
    world.wire.away = True
    assert await world.known.still_valid(both) == both

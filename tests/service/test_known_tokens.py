"""Which tokens are valid, over a real store whose answers are counted, delayed or cut off."""

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


class CountedStore:
    """Wraps a store: counts the queries, and can delay them or fail."""

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


class KnownTokensHarness:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.store_calls = CountedStore(store)
        self.seconds = 1_000.0
        self.now = NOW
        self.known = KnownTokens(self.store_calls, lambda: self.now, lambda: self.seconds)

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
        """Wait until the look-ups in the background have ended."""
        await asyncio.gather(*self.known._asking.values())


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[KnownTokensHarness]:
    store = open_store(f"sqlite:///{tmp_path}/tokens.sqlite", tmp_path)
    await store.open()
    made = KnownTokensHarness(store)
    yield made
    made.store_calls.open.set()
    await made.known.close()
    await store.close()


async def test_a_session_has_the_same_holder_on_every_node(harness: KnownTokensHarness) -> None:
    text = await harness.make("worker")
    other = KnownTokens(harness.store, lambda: NOW)
    one, two = await harness.known.find(text), await other.find(text)
    assert one is not None
    assert two is not None
    assert one.principal == two.principal
    assert one.principal.startswith("worker:")
    assert text not in repr(one)
    assert tokens.digest(text) not in repr(one)
    await other.close()


async def test_a_malformed_token_is_never_looked_up(harness: KnownTokensHarness) -> None:
    good = await harness.make()
    last = "0" if good[-1] != "0" else "1"
    for text in ("", "x", "bxs_", good[:-1], good[:-1] + last, good + "x", good.lower(), "é" * 53):
        assert not await harness.holds(text)
    assert harness.store_calls.asked == []


async def test_one_query_serves_all_concurrent_callers(harness: KnownTokensHarness) -> None:
    text = await harness.make()
    assert all(await asyncio.gather(*(harness.holds(text) for _ in range(100))))
    harness.seconds += known_tokens.FRESH_SECONDS * 0.9
    assert await harness.holds(text)
    assert len(harness.store_calls.asked) == 1


async def test_a_token_in_use_is_queried_again_after_the_answers(
    harness: KnownTokensHarness,
) -> None:
    text = await harness.make()
    assert await harness.holds(text)
    harness.store_calls.open.clear()
    harness.seconds += known_tokens.FRESH_SECONDS + 0.001
    for _ in range(50):
        assert await harness.holds(text)  # without waiting
    harness.store_calls.open.set()
    await harness.settled()
    assert len(harness.store_calls.asked) == 2


async def test_a_revoked_token_is_invalid_within_a_second(harness: KnownTokensHarness) -> None:
    """Also where its last query was running at that moment."""
    used, unused = await harness.make(), await harness.make()
    assert await harness.holds(used)
    assert await harness.holds(unused)
    await harness.revoke(used)
    await harness.revoke(unused)
    harness.seconds += known_tokens.FRESH_SECONDS + 0.001
    await harness.known.find(used)
    await harness.settled()
    assert not await harness.holds(used)
    harness.seconds += known_tokens.HOLDS_SECONDS + 0.001
    assert not await harness.holds(unused)
    assert known_tokens.HOLDS_SECONDS < 1


async def test_a_token_that_is_revoked_through_this_node_is_invalid_at_once(
    harness: KnownTokensHarness,
) -> None:
    text = await harness.make()
    assert await harness.holds(text)
    await harness.revoke(text)
    harness.known.forget(tokens.token_id(tokens.MADE, tokens.digest(text)))
    assert not await harness.holds(text)


async def test_an_expired_token_is_invalid_at_that_instant(harness: KnownTokensHarness) -> None:
    text = await harness.make(expires_at=NOW + 60)
    assert await harness.holds(text)
    harness.now = NOW + 59.999
    assert await harness.holds(text)
    harness.now = NOW + 60
    assert not await harness.holds(text)
    assert await harness.known.still_valid({tokens.digest(text)}) == set()
    assert len(harness.store_calls.asked) == 1


async def test_recently_valid_tokens_stay_valid_while_the_store_is_away(
    harness: KnownTokensHarness,
) -> None:
    text, stranger, expiring = (
        await harness.make(),
        await harness.make(),
        await harness.make(expires_at=NOW + 1),
    )
    assert await harness.holds(text)
    assert await harness.holds(expiring)
    harness.store_calls.away = True
    for _ in range(10):
        harness.seconds += 1
        assert await harness.holds(text)
        with pytest.raises(StoreAway):
            await harness.holds(stranger)
    harness.now += 1
    assert not await harness.holds(expiring)
    harness.seconds += known_tokens.AWAY_SECONDS + 0.001
    with pytest.raises(StoreAway):
        await harness.holds(text)
    harness.store_calls.away = False
    assert await harness.holds(text)
    assert await harness.holds(stranger)


async def test_an_unknown_token_is_not_refused_by_an_outdated_answer(
    harness: KnownTokensHarness,
) -> None:
    """It may have been created since: while nobody can tell, the answer is 503."""
    text = tokens.new_token()
    assert not await harness.holds(text)
    harness.store_calls.away = True
    assert not await harness.holds(text)
    harness.seconds += known_tokens.HOLDS_SECONDS + 0.001
    with pytest.raises(StoreAway):
        await harness.holds(text)


async def test_a_store_that_hangs_delays_no_caller_for_long(
    harness: KnownTokensHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(known_tokens, "HELD_PATIENCE_SECONDS", 0.05)
    text, stranger = await harness.make(), await harness.make()
    assert await harness.holds(text)
    harness.store_calls.open.clear()
    harness.seconds += 1
    async with asyncio.timeout(10):
        assert await harness.holds(text)
        with pytest.raises(StoreAway):
            await harness.holds(stranger)
    monkeypatch.setattr(known_tokens, "HELD_PATIENCE_SECONDS", 1_000.0)
    async with asyncio.timeout(10):
        assert await harness.holds(text)  # it hung a moment ago, so nobody waits for it again
    harness.store_calls.open.set()
    await harness.settled()
    assert await harness.holds(stranger)


async def test_the_number_of_unknown_tokens_in_memory_is_limited(
    harness: KnownTokensHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(known_tokens, "UNKNOWN_AT_MOST", 20)
    monkeypatch.setattr(known_tokens, "KEPT_AT_MOST", 10)
    text = await harness.make()
    assert await harness.holds(text)
    harness.store_calls.open.clear()
    flood = [harness.known.find(tokens.new_token()) for _ in range(100)]
    refused = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(one, StoreAway) for one in refused)
    assert len(harness.store_calls.asked) == 1 + known_tokens.UNKNOWN_AT_ONCE
    harness.store_calls.open.set()
    await harness.settled()
    assert len(harness.known._unknown) == 10
    harness.seconds += known_tokens.FRESH_SECONDS + 0.001
    assert await harness.holds(text)  # and valid tokens stay known
    await harness.settled()
    assert len(harness.store_calls.asked) == 1 + 20 + 1


async def test_one_query_returns_the_tokens_that_are_still_valid(
    harness: KnownTokensHarness,
) -> None:
    stays, goes = await harness.make(), await harness.make()
    both = {tokens.digest(stays), tokens.digest(goes)}
    assert await harness.known.still_valid(both) == both
    await harness.revoke(goes)
    assert await harness.known.still_valid(both) == {tokens.digest(stays)}
    harness.store_calls.away = True
    assert await harness.known.still_valid(both) == both

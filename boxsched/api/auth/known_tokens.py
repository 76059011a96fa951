"""Which tokens are valid: the store's answer, remembered for less than a second.

A token that is in use is looked up again behind the answers, so that no request waits for it, and
what was looked up longer than HOLDS_SECONDS ago counts for nothing while the store answers: so a
revoked token ends within a second on every node. While the store is away, what was known a moment
ago goes on holding; of the rest nobody can tell, and that is a 503, never a 401.

A token whose checksum does not hold never reaches the store, and of those that only look real a
few are looked up at a time: who sends many of them keeps nobody else from it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from typing import Protocol

import attrs

from boxsched.api.auth import tokens
from boxsched.errors import StoreAway
from boxsched.store.records import Token

FRESH_SECONDS = 0.4  # from then on it is looked up again, behind the answers
HOLDS_SECONDS = 0.9
AWAY_SECONDS = 15.0  # so long a token goes on holding that the store cannot be asked about
PATIENCE_SECONDS = 1.5  # for one look-up; then the store counts as away
HELD_PATIENCE_SECONDS = 0.5  # of a token that held a moment ago: the request itself waits too
REST_SECONDS = 1.0  # and for so long nobody waits for it who can do without
assert FRESH_SECONDS < HOLDS_SECONDS < 1.0  # revoked within a second (docs/faults.md, S3)

KEPT_AT_MOST = 10_000
STRANGERS_AT_ONCE = 4  # look-ups of what is not known to hold
STRANGERS_AT_MOST = 500  # that wait for one


class TokenStore(Protocol):
    """The part of the store that keeps tokens."""

    async def token(self, digest: str) -> Token | None: ...

    async def tokens(self) -> list[Token]: ...


@attrs.frozen
class Holder:
    """The owner of a valid token; ``principal`` names the token, the same on every node."""

    token: Token
    principal: str


@attrs.frozen
class _Seen:
    """What the store said, to a question begun at ``at`` (monotonic seconds)."""

    holder: Holder | None
    at: float


class KnownTokens:
    def __init__(
        self,
        store: TokenStore,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        # Apart, so that no flood of tokens of nobody pushes out those that hold.
        self._holding: dict[str, _Seen] = {}
        self._strange: dict[str, _Seen] = {}
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self._turn = asyncio.Semaphore(STRANGERS_AT_ONCE)
        self._away_at = float("-inf")

    async def find(self, text: str) -> Holder | None:
        """The owner of a token, by its text; None if the token is not valid. Raises StoreAway."""
        if not text.isascii():
            return None
        sha256 = tokens.digest(text)
        seen = self._holding.get(sha256)
        if seen is None:
            return await self.of(sha256) if tokens.looks_real(text) else None
        if self._monotonic() - seen.at < FRESH_SECONDS:  # the hot path
            return self._unexpired(seen)
        return await self.of(sha256)

    async def of(self, sha256: str) -> Holder | None:
        """The same for a token's SHA-256 sum."""
        # 1. What is known, if it is young enough; its next look-up begins in time.
        seen = self._holding.get(sha256) or self._strange.get(sha256)
        now = self._monotonic()
        age = float("inf") if seen is None else now - seen.at
        asking = self._asking.get(sha256)
        if age >= FRESH_SECONDS and asking is None:
            asking = self._ask(sha256)
        if seen is not None and (asking is None or age < HOLDS_SECONDS):
            return self._unexpired(seen)
        assert asking is not None
        # 2. What the store says now. A look-up is shared: nobody's patience ends it for others.
        held = seen is not None and seen.holder is not None and age < AWAY_SECONDS
        if not held or now - self._away_at > REST_SECONDS:
            patience = HELD_PATIENCE_SECONDS if held else PATIENCE_SECONDS
            done, _ = await asyncio.wait({asking}, timeout=patience)
            if done and asking.result():
                told = self._holding.get(sha256) or self._strange.get(sha256)
                return None if told is None else self._unexpired(told)
            self._away_at = self._monotonic()
        # 3. It is away.
        if seen is not None and held:
            return self._unexpired(seen)
        raise StoreAway("the database does not answer: nobody can tell whether this token holds")

    async def still(self, held: Collection[str]) -> set[str]:
        """The sums whose tokens are valid, by one query; all of them while the store is away."""
        try:
            found = await self._store.tokens()
        except StoreAway:
            return set(held)
        now = self._clock()
        return {one.digest for one in found if not _expired(one, now)}.intersection(held)

    def forget(self, id_: str) -> None:
        """Drop a token that was revoked through this node: here it ends at once."""
        for sha256, seen in list(self._holding.items()):
            if seen.holder is not None and seen.holder.token.id == id_:
                del self._holding[sha256]

    async def close(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    # --- How it is done ----------------------------------------------------------------------

    def _unexpired(self, seen: _Seen) -> Holder | None:
        holder = seen.holder
        if holder is None or holder.token.expires_at is None:
            return holder
        return None if _expired(holder.token, self._clock()) else holder

    def _ask(self, sha256: str) -> asyncio.Task[bool]:
        known = sha256 in self._holding
        if not known and len(self._asking) >= STRANGERS_AT_MOST:
            raise StoreAway("too many tokens to look up at once: try again")
        turn = contextlib.nullcontext() if known else self._turn
        task = asyncio.create_task(self._look_up(sha256, turn), name="look-up of a token")
        self._asking[sha256] = task
        task.add_done_callback(lambda _: self._asking.pop(sha256, None))
        return task

    async def _look_up(
        self, sha256: str, turn: contextlib.AbstractAsyncContextManager[None]
    ) -> bool:
        """True where the store answered."""
        async with turn:
            began = self._monotonic()  # before the question: what changes meanwhile is younger
            try:
                token = await self._store.token(sha256)
            except StoreAway:
                self._away_at = self._monotonic()
                return False
        self._keep(sha256, token, began)
        return True

    def _keep(self, sha256: str, token: Token | None, began: float) -> None:
        self._holding.pop(sha256, None)
        self._strange.pop(sha256, None)
        holder = None if token is None else Holder(token, tokens.principal(token))
        kept = self._strange if holder is None else self._holding
        kept[sha256] = _Seen(holder, began)
        if len(kept) > KEPT_AT_MOST:
            del kept[next(iter(kept))]  # the one not looked up for longest


def _expired(token: Token, now: float) -> bool:
    return token.expires_at is not None and now >= token.expires_at

"""Which tokens are valid: the store's answers, cached for less than a second.

A token in use is looked up again in the background, so that no request waits for that. While the
store answers, a look-up is valid for HOLDS_SECONDS, so a revoked token ends within a second on
every node. While the store is away, tokens that were valid a moment ago stay valid. All other
tokens get a 503, never a 401.

A token with a wrong checksum is never looked up. Of unknown tokens, only a few are looked up at a
time, so that a client with many invalid tokens does not delay others.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from typing import Protocol

import attrs

from boxsched.api.auth import tokens
from boxsched.api.auth.rights import Right, missing, rights_of
from boxsched.api.auth.scope import Scope, scope_of
from boxsched.errors import StoreAway
from boxsched.store.records import Token

FRESH_SECONDS = 0.4  # after this time it is looked up again in the background
HOLDS_SECONDS = 0.9
AWAY_SECONDS = 15.0  # how long a token stays valid while the store is away
PATIENCE_SECONDS = 1.5  # for one look-up; then the store counts as away
HELD_PATIENCE_SECONDS = 0.5  # the same for a token that was valid before
REST_SECONDS = 1.0  # then, for this time, requests with such a token do not wait at all
assert FRESH_SECONDS < HOLDS_SECONDS < 1.0  # revoked within a second (docs/faults.md, S3)

KEPT_AT_MOST = 10_000
UNKNOWN_AT_ONCE = 4  # look-ups of unknown tokens at the same time
UNKNOWN_AT_MOST = 500  # unknown tokens that wait for a look-up


class TokenStore(Protocol):
    """The part of the store that keeps tokens."""

    async def token(self, digest: str) -> Token | None: ...

    async def tokens(self) -> list[Token]: ...


@attrs.frozen
class Holder:
    """A valid token. ``principal``: its name, the same on every node."""

    token: Token
    principal: str
    rights: frozenset[Right]
    scope: Scope

    @classmethod
    def of(cls, token: Token) -> "Holder":
        return cls(token, tokens.principal(token), rights_of(token), scope_of(token))

    def require(self, right: Right) -> None:
        """Raise MissingRight if the token does not have the right."""
        if right not in self.rights:
            raise missing(right, self.token)


@attrs.frozen
class _Seen:
    """The store's answer to a look-up that began at ``at`` (monotonic seconds)."""

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
        # Separate, so that many invalid tokens cannot displace valid ones.
        self._holding: dict[str, _Seen] = {}
        self._unknown: dict[str, _Seen] = {}
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self._turn = asyncio.Semaphore(UNKNOWN_AT_ONCE)
        self._away_at = float("-inf")

    async def find(self, text: str) -> Holder | None:
        """Return the holder of a token by its text, None if it is invalid. Raises StoreAway."""
        if not text.isascii():
            return None
        sha256 = tokens.digest(text)
        seen = self._holding.get(sha256)
        if seen is None:
            return await self.of(sha256) if tokens.looks_real(text) else None
        if self._monotonic() - seen.at < FRESH_SECONDS:  # the usual case
            return self._unexpired(seen)
        return await self.of(sha256)

    async def of(self, sha256: str) -> Holder | None:
        """Like ``find``, by the token's SHA-256 sum."""
        # 1. Use the cached answer if it is recent enough; begin its next look-up in time.
        seen = self._holding.get(sha256) or self._unknown.get(sha256)
        now = self._monotonic()
        age = float("inf") if seen is None else now - seen.at
        asking = self._asking.get(sha256)
        if age >= FRESH_SECONDS and asking is None:
            asking = self._ask(sha256)
        if seen is not None and (asking is None or age < HOLDS_SECONDS):
            return self._unexpired(seen)
        assert asking is not None
        # 2. Look it up. A look-up is shared: one caller's timeout does not end it for the others.
        held = seen is not None and seen.holder is not None and age < AWAY_SECONDS
        if not held or now - self._away_at > REST_SECONDS:
            patience = HELD_PATIENCE_SECONDS if held else PATIENCE_SECONDS
            done, _ = await asyncio.wait({asking}, timeout=patience)
            if done and asking.result():
                told = self._holding.get(sha256) or self._unknown.get(sha256)
                return None if told is None else self._unexpired(told)
            self._away_at = self._monotonic()
        # 3. The store is away.
        if seen is not None and held:
            return self._unexpired(seen)
        raise StoreAway("the database does not answer: the token cannot be checked")

    async def still_valid(self, held: Collection[str]) -> set[str]:
        """Return the sums of valid tokens, by one query; all sums while the store is away."""
        try:
            found = await self._store.tokens()
        except StoreAway:
            return set(held)
        now = self._clock()
        return {one.digest for one in found if not _expired(one, now)}.intersection(held)

    def forget(self, id_: str) -> None:
        """Drop a token that was revoked through this node, so that it ends here at once."""
        for sha256, seen in list(self._holding.items()):
            if seen.holder is not None and seen.holder.token.id == id_:
                del self._holding[sha256]

    async def close(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    # --- Implementation ----------------------------------------------------------------------

    def _unexpired(self, seen: _Seen) -> Holder | None:
        holder = seen.holder
        if holder is None or holder.token.expires_at is None:
            return holder
        return None if _expired(holder.token, self._clock()) else holder

    def _ask(self, sha256: str) -> asyncio.Task[bool]:
        known = sha256 in self._holding
        if not known and len(self._asking) >= UNKNOWN_AT_MOST:
            raise StoreAway("too many tokens to look up at once: try again")
        turn = contextlib.nullcontext() if known else self._turn
        task = asyncio.create_task(self._look_up(sha256, turn), name="look-up of a token")
        self._asking[sha256] = task
        task.add_done_callback(lambda _: self._asking.pop(sha256, None))
        return task

    async def _look_up(
        self, sha256: str, turn: contextlib.AbstractAsyncContextManager[None]
    ) -> bool:
        """Look the token up; return whether the store answered."""
        async with turn:
            began = self._monotonic()  # before the query, so that the answer is never too old
            try:
                token = await self._store.token(sha256)
            except StoreAway:
                self._away_at = self._monotonic()
                return False
        self._keep(sha256, token, began)
        return True

    def _keep(self, sha256: str, token: Token | None, began: float) -> None:
        self._holding.pop(sha256, None)
        self._unknown.pop(sha256, None)
        holder = None if token is None else Holder.of(token)
        kept = self._unknown if holder is None else self._holding
        kept[sha256] = _Seen(holder, began)
        if len(kept) > KEPT_AT_MOST:
            del kept[next(iter(kept))]  # the one with the oldest look-up


def _expired(token: Token, now: float) -> bool:
    return token.expires_at is not None and now >= token.expires_at

"""Notes when tokens were last used: about a minute exact, and never while a request waits.

A request only adds its token to a set. The chore writes the set, at most once in NOTED_SECONDS for
each token; the store leaves out what another node has written meanwhile.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Protocol

from boxsched.errors import StoreAway
from boxsched.store.records import Token

NOTED_SECONDS = 60.0
REST_SECONDS = 1.0  # between two writes, for all tokens together
KEPT_AT_MOST = 10_000


class UseStore(Protocol):
    """The part of the store that keeps when tokens were used."""

    async def tokens_used(self, ids: Collection[str], seconds: float) -> None: ...


class LastUses:
    def __init__(self, store: UseStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._noted: dict[str, float] = {}  # by id of a token, when it was noted here
        self._due: set[str] = set()
        self._any = asyncio.Event()

    def note(self, token: Token) -> None:
        """Note that the token is in use now, if that was not noted in the last NOTED_SECONDS."""
        now = self._clock()
        last = self._noted.get(token.id, token.last_used_at)
        if last is not None and now - last < NOTED_SECONDS:
            return
        self._noted.pop(token.id, None)
        self._noted[token.id] = now
        if len(self._noted) > KEPT_AT_MOST:
            del self._noted[next(iter(self._noted))]
        self._due.add(token.id)
        self._any.set()

    async def run(self) -> None:
        """Write what was noted until cancelled."""
        while True:
            await self._any.wait()
            await self.run_once()
            await asyncio.sleep(REST_SECONDS)

    async def run_once(self) -> int:
        """Write what was noted; return how many tokens. While the store is away, it is dropped."""
        due, self._due = self._due, set()
        self._any.clear()
        if due:
            with contextlib.suppress(StoreAway):
                await self._store.tokens_used(sorted(due), NOTED_SECONDS)
        return len(due)

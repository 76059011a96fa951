"""Sessions of browsers: a random id in a cookie, and its SHA-256 sum in the store.

The store also keeps the SHA-256 sum of the session's token. On every node, a session is valid only
while its token is valid.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Protocol

import attrs

from activity_monitor import NotForPeople, SessionsAway
from boxsched.api.auth.known_tokens import Holder, KnownTokens
from boxsched.api.auth.tokens import Role, digest
from boxsched.errors import StoreAway

SESSION_SECONDS = 12 * 3_600
_ID_BYTES = 32
_MAX_ID_CHARACTERS = 128


class SessionStore(Protocol):
    """The part of the store that keeps sessions."""

    async def put_session(self, digest: str, principal: str, expires_at: float) -> None: ...

    async def session(self, digest: str, now: float) -> str | None: ...

    async def drop_session(self, digest: str) -> None: ...


@attrs.frozen
class StoredSessions:
    """The sessions of the Activity Monitor (``activity_monitor.Sessions``)."""

    store: SessionStore
    tokens: KnownTokens
    clock: Callable[[], float]

    async def sign_in(self, token: str) -> str | None:
        """Return a new session's id for a valid token, otherwise None.

        Raises NotForPeople for a worker's token.
        """
        with _away_translated():
            return await self._sign_in(token)

    async def _sign_in(self, token: str) -> str | None:
        holder = await self.tokens.find(token)
        if holder is None:
            return None
        if holder.token.role == Role.WORKER:
            raise NotForPeople
        session_id = secrets.token_urlsafe(_ID_BYTES)
        expires_at = self.clock() + SESSION_SECONDS
        await self.store.put_session(digest(session_id), holder.token.digest, expires_at)
        return session_id

    async def holder(self, session_id: str) -> Holder | None:
        """Return the holder of the session's token, None if session or token is invalid."""
        if not session_id.isascii() or len(session_id) > _MAX_ID_CHARACTERS:
            return None
        token = await self.store.session(digest(session_id), self.clock())
        return None if token is None else await self.tokens.of(token)

    async def holds(self, session_id: str) -> bool:
        with _away_translated():
            return await self.holder(session_id) is not None

    async def sign_out(self, session_id: str) -> None:
        if session_id.isascii() and len(session_id) <= _MAX_ID_CHARACTERS:
            with _away_translated():
                await self.store.drop_session(digest(session_id))


@contextlib.contextmanager
def _away_translated() -> Iterator[None]:
    """Translate StoreAway into the page's SessionsAway."""
    try:
        yield
    except StoreAway as error:
        raise SessionsAway from error

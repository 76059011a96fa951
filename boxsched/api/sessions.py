"""Sessions of browsers: a random id in a cookie, its SHA-256 sum in the store."""

import secrets
import time
from collections.abc import Callable
from typing import Protocol

import attrs

from boxsched.api.tokens import Tokens, digest

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
    """What the Activity Monitor signs in with (``activity_monitor.Sessions``)."""

    store: SessionStore
    tokens: Tokens
    clock: Callable[[], float] = time.time

    async def sign_in(self, token: str) -> str | None:
        """A new session's id for a good token, else None; never an id that was there before."""
        principal = self.tokens.principal(token)
        if principal is None:
            return None
        session_id = secrets.token_urlsafe(_ID_BYTES)
        expires_at = self.clock() + SESSION_SECONDS
        await self.store.put_session(digest(session_id), principal, expires_at)
        return session_id

    async def principal(self, session_id: str) -> str | None:
        """Who the session speaks for, while it and its token hold."""
        if not session_id.isascii() or len(session_id) > _MAX_ID_CHARACTERS:
            return None
        principal = await self.store.session(digest(session_id), self.clock())
        return principal if principal is not None and self.tokens.holds(principal) else None

    async def holds(self, session_id: str) -> bool:
        return await self.principal(session_id) is not None

    async def sign_out(self, session_id: str) -> None:
        if session_id.isascii() and len(session_id) <= _MAX_ID_CHARACTERS:
            await self.store.drop_session(digest(session_id))

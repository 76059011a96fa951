"""Sessions of browsers: a random id in a cookie, its SHA-256 sum in the store.

With it stands the SHA-256 sum of the token that opened it: on any node a session holds for as long
as its token does.
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
    """What the Activity Monitor signs in with (``activity_monitor.Sessions``)."""

    store: SessionStore
    tokens: KnownTokens
    clock: Callable[[], float]

    async def sign_in(self, token: str) -> str | None:
        """A new session's id for a good token, else None; never an id that was there before.
        Raises NotForPeople for a worker's, who has nothing to look at."""
        with _told():
            return await self._sign_in(token)

    async def _sign_in(self, token: str) -> str | None:
        holder = await self.tokens.find(token)
        if holder is None:
            return None
        if holder.token.role != Role.ADMIN:
            raise NotForPeople
        session_id = secrets.token_urlsafe(_ID_BYTES)
        expires_at = self.clock() + SESSION_SECONDS
        await self.store.put_session(digest(session_id), holder.token.digest, expires_at)
        return session_id

    async def holder(self, session_id: str) -> Holder | None:
        """Who the session speaks for, while it and its token hold."""
        if not session_id.isascii() or len(session_id) > _MAX_ID_CHARACTERS:
            return None
        token = await self.store.session(digest(session_id), self.clock())
        return None if token is None else await self.tokens.of(token)

    async def holds(self, session_id: str) -> bool:
        with _told():
            return await self.holder(session_id) is not None

    async def sign_out(self, session_id: str) -> None:
        if session_id.isascii() and len(session_id) <= _MAX_ID_CHARACTERS:
            with _told():
                await self.store.drop_session(digest(session_id))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """An absence of the store, in the page's words."""
    try:
        yield
    except StoreAway as error:
        raise SessionsAway from error

"""Sign-in sessions as the page uses them; ``boxsched.api.auth`` implements them."""

from typing import Final, Protocol

SESSION_COOKIE: Final = "boxsched_session"


class NotForPeople(Exception):
    """The token is valid, but has the role worker, so it cannot be used to sign in."""


class SessionsAway(Exception):
    """The store of the sessions is away."""


class Sessions(Protocol):
    """Sessions of browsers. A session id has only characters that are allowed in a cookie.

    Each call raises SessionsAway while the store is away.
    """

    async def sign_in(self, token: str) -> str | None:
        """Return a new session's id, or None for an invalid token.

        ``token`` is printable ASCII. Raises NotForPeople for a worker's token.
        """

    async def holds(self, session_id: str) -> bool:
        """Whether the session exists and its token is still valid."""

    async def sign_out(self, session_id: str) -> None:
        """End the session. An unknown id is not an error."""

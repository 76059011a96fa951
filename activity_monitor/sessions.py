"""Sign-in sessions as the page uses them; ``boxsched.api.auth`` implements them."""

from typing import Final, Protocol

SESSION_COOKIE: Final = "boxsched_session"


class NotForPeople(Exception):
    """The token is valid, but is a worker's: nobody signs in with it."""


class SessionsAway(Exception):
    """The store of the sessions does not answer."""


class Sessions(Protocol):
    """Sessions of browsers. A session id is made of characters that a cookie can hold.

    Each call raises SessionsAway while the store does not answer.
    """

    async def sign_in(self, token: str) -> str | None:
        """Return a new session's id, or None for an invalid token.

        ``token`` is printable ASCII. Raises NotForPeople for a worker's token.
        """

    async def holds(self, session_id: str) -> bool:
        """Whether the session exists and its token is still valid."""

    async def sign_out(self, session_id: str) -> None:
        """End the session; an unknown id is no error."""

"""What the page needs to know about signing in; whoever keeps the tokens implements it."""

from typing import Final, Protocol

SESSION_COOKIE: Final = "boxsched_session"


class NotForPeople(Exception):
    """The token holds, but lets nobody sign in."""


class SessionsAway(Exception):
    """Where the sessions are kept, nobody answers just now."""


class Sessions(Protocol):
    """Sessions of browsers. A session id is made of characters that a cookie can hold.

    Each call raises SessionsAway while the store does not answer.
    """

    async def sign_in(self, token: str) -> str | None:
        """A new session's id for a good token, else None. Printable ASCII is all that comes. Raises
        NotForPeople for a worker's."""

    async def holds(self, session_id: str) -> bool:
        """Whether the session is there and its token still good."""

    async def sign_out(self, session_id: str) -> None:
        """End the session; one that is not there is no error."""

"""What an agent asks of its node about the files of jobs.

In a node's own worker these are calls; ``boxsched worker`` makes requests (``remote/files.py``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from boxsched.backoff import Backoff
from boxsched.errors import StoreAway
from boxsched.model import JobId
from boxsched.protocol.artifacts import ArtifactFile

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 10.0

Key = tuple[JobId, int]  # a job and its lease token
T = TypeVar("T")


class Transfers(Protocol):
    """Each call may raise StoreAway: then it is repeated; or another BoxschedError, a refusal.

    LeaseEnded: the attempt is not this worker's any more.
    """

    async def missing(self, key: Key, kept: Sequence[ArtifactFile]) -> Sequence[str]:
        """Begin to keep these files of a job; return the paths whose content is not there yet."""

    async def put(self, key: Key, file: ArtifactFile, offset: int, data: bytes) -> int | None:
        """Store a part of a file; return the offset of the next part, None at the end."""

    async def given(self, key: Key) -> Sequence[ArtifactFile]:
        """Return the artifacts of the build that this job deploys."""

    async def get(self, key: Key, file: ArtifactFile, offset: int) -> bytes:
        """Return a part of one of them."""


async def until_done(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat the call while the store, or the node, is away."""
    backoff = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
    while True:
        try:
            return await call()
        except StoreAway:
            await asyncio.sleep(backoff.next())

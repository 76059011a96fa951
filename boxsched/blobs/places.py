"""The places of contents, behind one interface."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from boxsched.errors import Conflict

# As in the rows. The log store is a folder or a bucket; a row does not say which.
LOG_STORE, DATABASE = "folder", "database"
READ_BYTES = 256 * 1024
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,200}")  # of a file, made by the server


class WrongContent(Conflict):
    """What was stored is not what was announced: store it again."""

    code = "wrong_content"


class ContentGone(Conflict):
    """A content is not where its row says; see the node's log."""

    code = "content_gone"


class WrongStore(Exception):
    """A folder or bucket cannot be used; the message says why."""


class BlobPlace(Protocol):
    """Files with names by the server. All methods may raise StoreAway.

    ``read_bytes``: how much a reader of a whole file should read at a time.
    """

    name: str
    read_bytes: int

    async def append(self, file: str, offset: int, data: bytes) -> int:
        """Store a part of a new file; return the file's length from now on.

        A part that does not begin at the file's end changes nothing.
        """

    async def finish(self, file: str, size: int, sha256: str) -> None:
        """Make a new file durable. Raises WrongContent, and removes it, if it is not as said.

        A repeated call changes nothing.
        """

    async def write(self, file: str, data: bytes, sha256: str) -> None:
        """Store a whole new file durably, as ``append`` and ``finish`` do. Raises WrongContent."""

    async def abandon(self, file: str) -> None:
        """Remove the parts of a file that will not be finished."""

    async def read(self, file: str, offset: int, limit: int) -> bytes:
        """Return at most ``limit`` bytes from ``offset`` on; b"" at the end. Raises ContentGone."""

    async def remove(self, file: str) -> None:
        """Remove a file; none of that name is right, too."""


async def write_in_parts(place: BlobPlace, file: str, data: bytes, sha256: str) -> None:
    """``BlobPlace.write`` by ``append`` and ``finish``; completes parts that were there before."""
    end = await place.append(file, 0, data)
    if end < len(data):
        await place.append(file, end, data[end:])
    await place.finish(file, len(data), sha256)


class LogStore(BlobPlace, Protocol):
    """The place of files outside of the database: a folder or a bucket."""

    async def open(self, cluster: str) -> bool:
        """Check that it can be used and is this installation's, before any other call.

        Files without a row are removed, so two installations must never share a store. Return
        whether it answers. If not, it is checked later. Raises WrongStore.
        """

    async def owner(self) -> str | None:
        """Return the installation to which it belongs, None if it is new; also before ``open``.

        Raises WrongStore.
        """

    async def close(self) -> None: ...

    async def length(self, file: str) -> int | None:
        """Return the length of a complete file in bytes; None if there is none."""

    async def old_files(self, after: str, before: float) -> tuple[list[str], str | None]:
        """Return some files last changed before this time, and where to continue (None at the end).

        ``after``: "" at the beginning.
        """

    async def remove_old_uploads(self, before: float) -> int:
        """Remove incomplete files that are old; return how many."""


class BlobPlaces:
    """``new``: the place of new contents. ``others``: those that this node can read, too."""

    def __init__(self, new: BlobPlace, others: Sequence[BlobPlace] = ()) -> None:
        self.new = new
        self._known: Mapping[str, BlobPlace] = {place.name: place for place in (new, *others)}

    def of(self, name: str) -> BlobPlace:
        """Return the place of a stored content. Raises ContentGone if this node lacks it."""
        found = self._known.get(name)
        if found is None:
            raise ContentGone(
                "this node has no --log-store, where the file is: start it with that option"
            )
        return found

"""Files in the database, for a cluster without a shared folder."""

import hashlib
from collections.abc import Callable

from boxsched.blobs import places
from boxsched.blobs.places import DATABASE, ContentGone, WrongContent, write_in_parts
from boxsched.errors import TooLarge
from boxsched.store.blob_rows import BlobRows

DATABASE_FILE_BYTES = 64 << 20


class DatabasePlace:
    name = DATABASE
    read_bytes = places.READ_BYTES

    def __init__(self, rows: BlobRows, now: Callable[[], float]) -> None:
        self._rows = rows
        self._now = now

    async def append(self, file: str, offset: int, data: bytes) -> int:
        if offset + len(data) > DATABASE_FILE_BYTES:
            raise TooLarge(
                f"a file in the database has at most {DATABASE_FILE_BYTES >> 20} MiB: start the"
                " nodes with --log-store, a folder or bucket that they share, for larger ones"
            )
        if not data:
            return await self._rows.parts_end(file)
        return await self._rows.put_part(file, offset, data, self._now())

    async def finish(self, file: str, size: int, sha256: str) -> None:
        digest, length = hashlib.sha256(), 0
        while data := await self._rows.part(file, length):
            digest.update(data)
            length += len(data)
        if (length, digest.hexdigest()) != (size, sha256):
            await self.remove(file)
            raise WrongContent("the stored content does not have the announced SHA-256")

    async def write(self, file: str, data: bytes, sha256: str) -> None:
        await write_in_parts(self, file, data, sha256)

    async def abandon(self, file: str) -> None:
        await self.remove(file)

    async def read(self, file: str, offset: int, limit: int) -> bytes:
        data = await self._rows.part(file, offset)
        if not data and offset == 0 and not await self._rows.parts_end(file):
            raise ContentGone("its content is not in the database any more")
        return data[:limit]

    async def remove(self, file: str) -> None:
        await self._rows.drop_parts([file])

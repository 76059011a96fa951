"""Files in a bucket of S3, which all nodes share.

    files/SHELF/NAME      a complete file; the same paths as in a folder (``folder``)
    uploads/NAME/OFFSET   bytes of an incomplete file that are not in a part of its upload yet
    belongs-to            the name of the installation

S3 stores a large file as an upload in parts of at least 5 MiB; workers send less at a time. So
each ``append`` stores an object of its own, and PART_BYTES of these become a part of the upload.
All of it is in the bucket, so any node can take the next bytes. A part has the same bytes whichever
node makes it, so two nodes at the same file do no harm.

A node that has seen all bytes of a file knows its hash. Otherwise it reads the complete object and
computes the hash; the file has no row yet, so nobody else reads it. The parts' tags ensure that no
other node has replaced a part meanwhile.

A kill at any moment leaves objects and uploads that ``remove_old_uploads`` removes after a day.
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import attrs

from boxsched.blobs.bucket_client import BucketClient, BucketRefuses, NoSuchThing
from boxsched.blobs.folder import FILES, OWNER, UPLOADS, shelved
from boxsched.blobs.places import LOG_STORE, NAME, ContentGone, WrongContent, WrongStore
from boxsched.errors import StoreAway, TooLarge

PART_BYTES = 8 << 20
MAX_PARTS = 10_000  # S3's limit
MAX_FILE_BYTES = PART_BYTES * MAX_PARTS
READ_BYTES = 4 << 20
REMEMBERED = 16  # files of which a node remembers the last bytes, at most a part and a request each
AT_ONCE = 8  # requests that remove objects

_log = logging.getLogger(__name__)


@attrs.define
class _Upload:
    """What this node knows of a file. ``digest``: None if it has not seen all bytes."""

    lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    known: bool = False  # whether what follows was read from the bucket
    complete: bool = False
    id: str | None = None
    tags: list[str] = attrs.field(factory=list)  # of the parts
    rest: bytearray = attrs.field(factory=bytearray)  # bytes behind the parts
    kept: list[int] = attrs.field(factory=list)  # offsets of the objects with these bytes
    end: int = 0
    digest: Any = None


class BucketPlace:
    name = LOG_STORE
    read_bytes = READ_BYTES

    def __init__(self, bucket: str, prefix: str, endpoint: str | None) -> None:
        self._s3 = BucketClient(bucket, prefix, endpoint)
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()
        self._cluster = ""
        self._checked = False
        self._checking = asyncio.Lock()

    # --- Start ------------------------------------------------------------------------------

    async def open(self, cluster: str) -> bool:
        """A bucket that does not answer is checked at its first use: a node starts without."""
        self._cluster = cluster
        await self._s3.open()
        try:
            await self._check()
        except WrongStore:
            await self._s3.close()
            raise
        except StoreAway:
            _log.warning("%s does not answer: it will be checked at its first use", self._s3)
            return False
        return True

    async def owner(self) -> str | None:
        await self._s3.open()
        try:
            return await self._owner()
        except BucketRefuses as error:
            raise WrongStore(f"cannot read {self._s3}: {error.cause}") from None

    async def close(self) -> None:
        await self._s3.close()

    async def _check(self) -> None:
        """Try to read, write, list and remove. Raises WrongStore if the bucket refuses it."""
        probe = f"{UPLOADS}/check-{secrets.token_hex(8)}/0"
        doing = "read"
        try:
            owner = await self._owner()
            doing = "write into"
            if owner is None:
                await self._s3.put(OWNER, self._cluster.encode(), new=True)
                owner = await self._owner()
            await self._s3.put(probe, b"x")
            doing = "list"
            await self._s3.listed(f"{UPLOADS}/", limit=1)
            await self._s3.uploads(f"{UPLOADS}/check-")
            doing = "remove from"
            await self._s3.remove(probe)
        except BucketRefuses as error:
            raise WrongStore(f"cannot {doing} {self._s3}: {error.cause}") from None
        if owner != self._cluster:
            raise WrongStore(f"{self._s3} belongs to another installation: use another prefix")
        self._checked = True

    async def _owner(self) -> str | None:
        try:
            return (await self._s3.get(OWNER)).decode(errors="replace").strip()
        except NoSuchThing:
            return None

    async def _ready(self) -> None:
        """Check the bucket if it did not answer at the start."""
        if self._checked:
            return
        async with self._checking:
            if not self._checked:
                try:
                    await self._check()
                except WrongStore as error:
                    _log.error("--log-store: %s", error)
                    raise StoreAway("the object store cannot be used: see the log") from None

    # --- Files ------------------------------------------------------------------------------

    async def write(self, file: str, data: bytes, sha256: str) -> None:
        await self._ready()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise WrongContent("the content does not have the announced SHA-256")
        await self._s3.put(shelved(file), data)

    async def read(self, file: str, offset: int, limit: int) -> bytes:
        await self._ready()
        try:
            return await self._s3.get(shelved(file), offset, limit) if limit else b""
        except NoSuchThing:
            _log.error("%s/%s is not there, but the database refers to it", self._s3, file)
            raise ContentGone("its content is not in the store any more") from None

    async def length(self, file: str) -> int | None:
        await self._ready()
        return await self._s3.length(shelved(file))

    async def remove(self, file: str) -> None:
        await self._ready()
        self._uploads.pop(file, None)
        await self._s3.remove(shelved(file))

    # --- New files --------------------------------------------------------------------------

    async def append(self, file: str, offset: int, data: bytes) -> int:
        async with self._upload(file) as upload:
            if offset > upload.end and not upload.complete:  # another node was given some
                await self._learn(file, upload)
            if upload.complete or offset != upload.end or not data:
                return upload.end
            if offset + len(data) > MAX_FILE_BYTES:
                raise TooLarge(f"a file in a bucket has at most {MAX_FILE_BYTES >> 20} MiB")
            await self._s3.put(_kept(file, offset), data)
            upload.kept.append(offset)
            upload.rest += data
            upload.end += len(data)
            if upload.digest is not None:
                upload.digest.update(data)
            while len(upload.rest) >= PART_BYTES:
                await self._put_part(file, upload, PART_BYTES)
            return upload.end

    async def finish(self, file: str, size: int, sha256: str) -> None:
        async with self._upload(file) as upload:
            if upload.end != size:  # another node was given some
                await self._learn(file, upload)
            if not upload.complete:
                if upload.end != size or _differs(upload, sha256):
                    await self._forget(file)
                    raise WrongContent("the stored content does not have the announced SHA-256")
                await self._complete(file, upload)
            if upload.digest is None:
                await self._verify(file, size, sha256)
                upload.digest = True
            elif await self._s3.length(shelved(file)) != size:
                raise NoSuchThing(file)
            upload.rest.clear()
            await self._remove_all(await self._keys(file))

    async def abandon(self, file: str) -> None:
        await self._ready()
        await self._forget(file)

    async def _put_part(self, file: str, upload: _Upload, size: int) -> None:
        """Make a part of the first bytes behind the parts, and remove their objects."""
        key, data = shelved(file), bytes(upload.rest[:size])
        if upload.id is None:
            upload.id = await self._s3.begin(key)
        tag = await self._s3.put_part(key, upload.id, len(upload.tags) + 1, data)
        upload.tags.append(tag)
        del upload.rest[:size]
        if size < PART_BYTES:
            return  # the last one; its objects are removed when the file is complete
        end = len(upload.tags) * PART_BYTES
        ends = [*upload.kept[1:], upload.end]
        inside = [at for at, stop in zip(upload.kept, ends, strict=True) if stop <= end]
        upload.kept = upload.kept[len(inside) :]
        await self._remove_all([_kept(file, at) for at in inside])

    async def _complete(self, file: str, upload: _Upload) -> None:
        if upload.id is None:
            await self._s3.put(shelved(file), bytes(upload.rest))
        else:
            while upload.rest:
                await self._put_part(file, upload, min(PART_BYTES, len(upload.rest)))
            await self._s3.complete(shelved(file), upload.id, upload.tags)
        upload.complete = True

    async def _verify(self, file: str, size: int, sha256: str) -> None:
        """Read the complete file and compute its hash; remove it if it is a wrong one."""
        digest, length = hashlib.sha256(), 0
        while data := await self._s3.get(shelved(file), length, READ_BYTES):
            await asyncio.to_thread(digest.update, data)
            length += len(data)
        if (length, digest.hexdigest()) != (size, sha256):
            await self._s3.remove(shelved(file))
            await self._forget(file)
            raise WrongContent("the stored content does not have the announced SHA-256")

    # --- What is there of a new file --------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _upload(self, file: str) -> AsyncIterator[_Upload]:
        """Give what is known of a file; the next call reads it anew if the bucket differs."""
        await self._ready()
        upload = self._uploads.pop(file, None) or _Upload()
        self._uploads[file] = upload
        while len(self._uploads) > REMEMBERED:
            self._uploads.popitem(last=False)
        async with upload.lock:
            if not upload.known:
                await self._learn(file, upload)
            try:
                yield upload
            except NoSuchThing:
                upload.known = False
                raise StoreAway("another request has just changed this file: try again") from None
            except StoreAway:
                upload.known = False
                raise

    async def _learn(self, file: str, upload: _Upload) -> None:
        key = shelved(file)
        length = await self._s3.length(key)
        if length is not None:
            self._set(upload, complete=True, end=length, digest=None, rest=bytearray())
            return
        id_: str | None = None
        tags: list[str] = []
        for its, one, _ in await self._s3.uploads(key):
            found = [] if its != key else await self._tags(key, one)
            if len(found) > len(tags):
                id_, tags = one, found
        end, rest = len(tags) * PART_BYTES, bytearray()
        kept = []
        for name in await self._keys(file):
            at = int(name.rpartition("/")[2], 16)
            if at > end:
                break
            data = await self._s3.get(name)
            if at + len(data) > end:
                kept.append(at)
                rest += data[end - at :]
                end = at + len(data)
        is_same = (id_, tags, rest, end) == (upload.id, upload.tags, upload.rest, upload.end)
        digest = upload.digest if is_same and end else None if end else hashlib.sha256()
        self._set(upload, id=id_, tags=tags, rest=rest, kept=kept, end=end, digest=digest)

    def _set(self, upload: _Upload, **fields: Any) -> None:
        for name, value in {"complete": False, "id": None, "known": True, **fields}.items():
            setattr(upload, name, value)

    async def _tags(self, key: str, upload: str) -> list[str]:
        """Return the tags of an upload's first parts, as far as they have the right size."""
        tags: list[str] = []
        try:
            for part in await self._s3.parts(key, upload):
                if (part.number, part.size) != (len(tags) + 1, PART_BYTES):
                    break
                tags.append(part.tag)
        except NoSuchThing:
            return []
        return tags

    async def _keys(self, file: str) -> list[str]:
        """Return the keys of the objects with bytes of a file, in order."""
        keys: list[str] = []
        after: str | None = ""
        while after is not None:
            found, after = await self._s3.listed(f"{UPLOADS}/{file}/", after)
            keys += [key for key, _, _ in found]
        return keys

    async def _forget(self, file: str) -> None:
        """Remove what there is of an incomplete file."""
        self._uploads.pop(file, None)
        for key, upload, _ in await self._s3.uploads(shelved(file)):
            if key == shelved(file):
                await self._s3.abort(key, upload)
        await self._remove_all(await self._keys(file))

    async def _remove_all(self, keys: list[str]) -> None:
        for begin in range(0, len(keys), AT_ONCE):
            await asyncio.gather(*map(self._s3.remove, keys[begin : begin + AT_ONCE]))

    # --- Sweeping ---------------------------------------------------------------------------

    async def old_files(self, after: str, before: float) -> tuple[list[str], str | None]:
        """``after``: a key."""
        await self._ready()
        found, following = await self._s3.listed(f"{FILES}/", after)
        names = [(key.rpartition("/")[2], at) for key, _, at in found]
        return [name for name, at in names if at < before and NAME.fullmatch(name)], following

    async def remove_old_uploads(self, before: float) -> int:
        await self._ready()
        gone: set[str] = set()
        position: str | None = ""
        while position is not None:
            found, position = await self._s3.listed(f"{UPLOADS}/", position)
            old = [key for key, _, at in found if at < before]
            await self._remove_all(old)
            gone.update(key.split("/")[1] for key in old)
        for key, upload, began in await self._s3.uploads(f"{FILES}/"):
            if began < before and not await self._grows(key, upload, before):
                await self._s3.abort(key, upload)
                gone.add(key.rpartition("/")[2])
        return len(gone)

    async def _grows(self, key: str, upload: str, since: float) -> bool:
        """Whether the upload got a part since then."""
        try:
            return any(part.changed >= since for part in await self._s3.parts(key, upload))
        except NoSuchThing:
            return False


def _kept(file: str, offset: int) -> str:
    assert NAME.fullmatch(file), file
    return f"{UPLOADS}/{file}/{offset:016x}"


def _differs(upload: _Upload, sha256: str) -> bool:
    return upload.digest is not None and upload.digest.hexdigest() != sha256

"""``boxsched db copy-files``: copy the files of one log store into another.

Names of files are never used again, and a file never changes. So a file that the target has with
the same length is not copied again: a command that was interrupted continues where it was, and one
that runs beside a service copies what is new. Every file is checked by its SHA-256 in the target.
"""

import asyncio
import contextlib
import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import attrs

from boxsched.blobs.folder import SHELVES, shelved
from boxsched.blobs.places import ContentGone, LogStore, WrongStore
from boxsched.errors import Conflict, Invalid
from boxsched.node.contents import log_store
from boxsched.node.options import S3Address

AT_ONCE = 8  # files


@attrs.frozen
class StorePlace:
    """A folder or bucket, and the URL of the bucket's service (None: of the environment)."""

    where: Path | S3Address
    endpoint: str | None = None


@attrs.define
class Copied:
    """``gone``: files that were removed from the source meanwhile."""

    files: int = 0
    bytes: int = 0
    present: int = 0
    gone: int = 0


OnCopied = Callable[[Copied, float], None]  # arguments: the result so far, the part of all (0 to 1)


async def copy_files(source: StorePlace, target: StorePlace, on_progress: OnCopied) -> Copied:
    """Copy all complete files. Raises Invalid, Conflict, and StoreAway if a store is away."""
    if source == target:
        raise Invalid("it is the same place as --from", "--to")
    async with contextlib.AsyncExitStack() as opened:
        old = log_store(source.where, source.endpoint)
        new = log_store(target.where, target.endpoint)
        for store in (old, new):
            opened.push_async_callback(store.close)
        try:
            owner = await old.owner()
            if owner is None:
                raise Invalid(f"{source.where} has never been a --log-store", "--from")
            await old.open(owner)
            await new.open(owner)
        except WrongStore as error:
            raise Conflict(str(error)) from None
        return await _copy_all(old, new, on_progress)


async def _copy_all(source: LogStore, target: LogStore, on_progress: OnCopied) -> Copied:
    copied = Copied()
    after: str | None = ""
    while after is not None:
        names, after = await source.old_files(after, math.inf)
        for begin in range(0, len(names), AT_ONCE):
            some = names[begin : begin + AT_ONCE]
            await asyncio.gather(*(_copy(source, target, name, copied) for name in some))
            on_progress(copied, _position(some[-1]))
    return copied


def _position(file: str) -> float:
    """Return where a file is in a list: they are listed by shelf, and all shelves are as full."""
    return int(shelved(file).split("/")[1], 16) / SHELVES


async def _copy(source: LogStore, target: LogStore, file: str, copied: Copied) -> None:
    size = await source.length(file)
    if size is None:
        copied.gone += 1
        return
    there = await target.length(file)
    if there == size:
        copied.present += 1
        return
    if there is not None:  # another program has copied only a part of it
        await target.remove(file)
    try:
        await _copy_content(source, target, file, size)
    except ContentGone:
        copied.gone += 1
        await target.abandon(file)
        return
    copied.files += 1
    copied.bytes += size


async def _copy_content(source: LogStore, target: LogStore, file: str, size: int) -> None:
    data = await source.read(file, 0, source.read_bytes)
    if len(data) == size:
        await target.write(file, data, hashlib.sha256(data).hexdigest())
        return
    await target.abandon(file)  # what an interrupted command has left
    digest, at = hashlib.sha256(), 0
    while data:
        digest.update(data)
        if await target.append(file, at, data) != at + len(data):
            raise Conflict(f"another program writes {file} into the target: copy again")
        at += len(data)
        data = await source.read(file, at, source.read_bytes)
    await target.finish(file, size, digest.hexdigest())

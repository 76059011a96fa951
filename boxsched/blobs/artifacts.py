"""Artifacts of jobs: taken from workers, given to deploys and users."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import attrs

from boxsched.blobs.places import BlobPlaces
from boxsched.errors import Conflict, Invalid, LeaseEnded, NotFound, StoreAway, TooLarge
from boxsched.file_paths import unsafe
from boxsched.model import JobId, WorkloadId
from boxsched.protocol.artifacts import MAX_ARTIFACTS, MAX_GIVEN, PART_BYTES, ArtifactFile
from boxsched.store.blob_rows import BlobRows
from boxsched.store.steps.blobs import HeldJob, StoredArtifact, StoredFile

Key = tuple[JobId, int]  # a job and its lease token
MIB = 1 << 20
LEASES_COUNTED = 500


@attrs.frozen
class ArtifactLimits:
    """In bytes. ``file``: of one artifact. ``job``: of all artifacts of an attempt."""

    file: int = 1 << 30
    job: int = 4 << 30


class ArtifactStore:
    """``holder``: the id of the token of the worker that calls."""

    def __init__(
        self, rows: BlobRows, places: BlobPlaces, limits: ArtifactLimits, now: Callable[[], float]
    ) -> None:
        self._rows = rows
        self._places = places
        self._limits = limits
        self._now = now
        self.bytes: Counter[str] = Counter()  # kept, given and downloaded, for the metrics
        self.kept = 0  # files
        self._begun: dict[Key, dict[str, int]] = {}  # hash and size of the contents of each lease

    # --- From workers -----------------------------------------------------------------------

    async def missing(self, holder: str, key: Key, kept: Sequence[ArtifactFile]) -> list[str]:
        """Return the paths whose content is not stored yet.

        Raises LeaseEnded, Invalid, and TooLarge if they exceed a limit.
        """
        held = await self._held(holder, key)
        if not held.keeps:
            raise Invalid("the job has no artifacts in its settings", "files")
        self._check(kept)
        stored = {one.path: one for one in await self._rows.artifacts_of(key[0], held.attempt)}
        return [one.path for one in kept if stored.get(one.path) != one]

    def _check(self, kept: Sequence[ArtifactFile]) -> None:
        if len(kept) > MAX_ARTIFACTS:
            raise TooLarge(f"{len(kept)} files; a job has at most {MAX_ARTIFACTS}", "files")
        for index, one in enumerate(kept):
            self._check_file(one, f"files[{index}]")
        if len({one.path for one in kept}) < len(kept):
            raise Invalid("a path occurs twice", "files")
        total = sum(one.size for one in kept)
        if total > self._limits.job:
            raise TooLarge(
                f"they have {_shown(total)} together; the limit is {_shown(self._limits.job)}"
                " (serve --artifact-total)",
                "files",
            )

    def _check_file(self, one: ArtifactFile, field: str) -> None:
        wrong = unsafe(one.path)
        if wrong is not None:
            raise Invalid(wrong, f"{field}.path")
        if one.size > self._limits.file:
            raise TooLarge(
                f"{one.path} has {_shown(one.size)}; the limit is {_shown(self._limits.file)}"
                " (serve --artifact-limit)",
                f"{field}.size",
            )

    async def put(
        self, holder: str, key: Key, one: ArtifactFile, offset: int, data: bytes
    ) -> int | None:
        """Store a part of a file; return the offset of the next part, None at the end.

        Raises LeaseEnded, Invalid, TooLarge, WrongContent.
        """
        self._check_file(one, "file")
        if len(data) > PART_BYTES or offset + len(data) > one.size:
            raise Invalid("the part goes beyond the end of the file", "offset")
        held = await self._held(holder, key)
        if not held.keeps:
            raise Invalid("the job has no artifacts in its settings", "file")
        self._count(key, one)
        place = self._places.new
        file = f"{one.sha256}-{key[0]}-{key[1]}"
        if len(data) == one.size and hashlib.sha256(data).hexdigest() == one.sha256:
            await place.write(file, data, one.sha256)
        else:
            end = await place.append(file, offset, data)
            if end < one.size:
                return end
            if end > one.size:
                raise Invalid("a file with this content has another size", "size")
            await place.finish(file, one.size, one.sha256)
        await self._store(holder, key, one, StoredFile(place.name, file, one.size))
        return None

    def _count(self, key: Key, one: ArtifactFile) -> None:
        """Count a content that is sent under this lease. Raises TooLarge.

        The rows limit what a job has in the end, on all nodes together. This limits what a worker
        can write to the disk through this node: files that it does not finish, and contents that
        it replaces. So with N nodes it is N times the limit, until ``sweeping`` removes them.
        """
        begun = self._begun[key] = self._begun.pop(key, {})  # now the last one
        if len(self._begun) > LEASES_COUNTED:
            del self._begun[next(iter(self._begun))]
        others = sum(size for sha256, size in begun.items() if sha256 != one.sha256)
        if one.sha256 not in begun and len(begun) >= MAX_ARTIFACTS:
            raise TooLarge(f"a job has at most {MAX_ARTIFACTS} artifacts", "file")
        if others + one.size > self._limits.job:
            raise TooLarge(f"a job's artifacts have at most {_shown(self._limits.job)}", "file")
        begun[one.sha256] = max(one.size, begun.get(one.sha256, 0))

    async def _store(self, holder: str, key: Key, one: ArtifactFile, stored: StoredFile) -> None:
        is_ = await self._rows.put_artifact(
            *key, holder, one, stored, self._limits.job, self._now()
        )
        self.kept += 1
        self.bytes["kept"] += one.size
        if is_.file != stored.file:  # the same content was stored before
            await self._places.of(stored.place).remove(stored.file)

    async def given(self, holder: str, key: Key) -> list[ArtifactFile]:
        """Return what a deploy gets: of two files of one path, that of the later job.

        Raises LeaseEnded, Conflict.
        """
        found = await self._rows.given(await self._build(holder, key))
        if len(found) > MAX_GIVEN:
            raise Conflict(f"the build has more than {MAX_GIVEN} artifacts")
        return list({one.path: one for one in found}.values())

    async def get(self, holder: str, key: Key, sha256: str, offset: int) -> bytes:
        """Return a part of such a file. Raises LeaseEnded, NotFound, ContentGone."""
        build = await self._build(holder, key)
        found = await self._rows.given_content(build, sha256)
        if found is None:
            raise NotFound("the build has no artifact of this content")
        data = await self._places.of(found.place).read(found.file, offset, PART_BYTES)
        self.bytes["given"] += len(data)
        return data

    async def _build(self, holder: str, key: Key) -> WorkloadId:
        held = await self._held(holder, key)
        if held.build is None:
            raise NotFound("the job deploys no build")
        return held.build

    async def _held(self, holder: str, key: Key) -> HeldJob:
        held = await self._rows.held_job(*key, holder)
        if held is None:
            raise LeaseEnded("this worker does not hold the job under this lease")
        return held

    # --- To users ---------------------------------------------------------------------------

    async def listed(self, job: JobId, attempt: int) -> list[ArtifactFile]:
        return await self._rows.artifacts_of(job, attempt)

    async def find(self, job: JobId, attempt: int, path: str) -> StoredArtifact | None:
        return None if unsafe(path) else await self._rows.artifact(job, attempt, path)

    async def read(self, one: StoredArtifact, offset: int, end: int) -> bytes:
        """Return a part of an artifact, before the byte ``end``; at least one byte."""
        place = self._places.of(one.place)
        data = await place.read(one.file, offset, min(place.read_bytes, end - offset))
        if not data and offset < one.size:
            raise StoreAway("its content ends too early")
        self.bytes["downloaded"] += len(data)
        return data


class LocalTransfers:
    """What the in-process worker of a node asks (``worker.agent.transfers``)."""

    def __init__(self, artifacts: ArtifactStore, holder: str) -> None:
        self._artifacts = artifacts
        self._holder = holder

    async def missing(self, key: Key, kept: Sequence[ArtifactFile]) -> Sequence[str]:
        return await self._artifacts.missing(self._holder, key, kept)

    async def put(self, key: Key, file: ArtifactFile, offset: int, data: bytes) -> int | None:
        return await self._artifacts.put(self._holder, key, file, offset, data)

    async def given(self, key: Key) -> Sequence[ArtifactFile]:
        return await self._artifacts.given(self._holder, key)

    async def get(self, key: Key, file: ArtifactFile, offset: int) -> bytes:
        return await self._artifacts.get(self._holder, key, file.sha256, offset)


def _shown(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB else f"{size} bytes"

"""The rows of artifacts and their contents; part of ``Store``. Its rules hold here, too."""

from collections.abc import Sequence

from boxsched.model import JobId, WorkloadId
from boxsched.protocol.artifacts import ArtifactFile
from boxsched.store.driver import StoreDriver
from boxsched.store.steps import blobs
from boxsched.store.steps.blobs import HeldJob, StoredArtifact, StoredFile


class BlobRows:
    """Every method may raise ``StoreAway``."""

    def __init__(self, driver: StoreDriver) -> None:
        self._driver = driver

    async def held_job(self, job: JobId, lease_token: int, holder: str) -> HeldJob | None:
        """Return the attempt that a worker with the token ``holder`` holds under this lease."""
        return await self._driver.serving.read(blobs.held_job, job, lease_token, holder)

    async def put_artifact(
        self,
        job: JobId,
        lease_token: int,
        holder: str,
        file: ArtifactFile,
        stored: StoredFile,
        most_bytes: int,
        now: float,
    ) -> StoredFile:
        """Store an artifact whose content is in the file ``stored``. Return where the content is
        from now on; if that is another file, the caller removes its own.

        Raises LeaseEnded, TooLarge.
        """
        return await self._driver.serving.write(
            blobs.put_artifact, job, lease_token, holder, file, stored, most_bytes, now
        )

    async def artifacts_of(self, job: JobId, attempt: int) -> list[ArtifactFile]:
        """Return the artifacts of an attempt, by path."""
        return await self._driver.reading.read(blobs.artifacts_of, job, attempt)

    async def artifact(self, job: JobId, attempt: int, path: str) -> StoredArtifact | None:
        return await self._driver.reading.read(blobs.artifact, job, attempt, path)

    async def given(self, build: WorkloadId) -> list[ArtifactFile]:
        """Return a build's artifacts, at most MAX_GIVEN + 1. Raises Conflict if they were deleted.

        Two jobs may have kept a file of the same path: the later job's comes last.
        """
        return await self._driver.reading.snapshot(blobs.given, build)

    async def given_content(self, build: WorkloadId, sha256: str) -> StoredFile | None:
        return await self._driver.serving.read(blobs.given_content, build, sha256)

    async def put_part(self, file: str, first_byte: int, data: bytes, now: float) -> int:
        """Store the next part of a file in the database; return the file's length from now on."""
        return await self._driver.serving.write(blobs.put_part, file, first_byte, data, now)

    async def parts_end(self, file: str) -> int:
        """Return the length of a file in the database."""
        return await self._driver.serving.read(blobs.parts_end, file)

    async def part(self, file: str, at: int) -> bytes:
        """Return bytes of a file in the database from ``at`` on; b"" at its end."""
        return await self._driver.reading.read(blobs.part, file, at)

    async def drop_parts(self, files: Sequence[str]) -> None:
        """Delete files in the database."""
        await self._driver.serving.write(blobs.drop_parts, files)

    async def drop_unused(
        self, after: str, before: float, limit: int
    ) -> tuple[list[StoredFile], str | None]:
        """Delete contents without a reference, of the next ``limit`` behind the hash ``after``;
        return the files to remove, and where to continue (None at the end).
        """
        return await self._driver.serving.write(blobs.drop_unused, after, before, limit)

    async def oldest_files(self, place: str) -> list[str]:
        """Return the file of the first log that is in a file, and that of the content that was used
        the longest time ago, if it is in this place."""
        return await self._driver.reading.read(blobs.oldest_files, place)

    async def known_files(self, files: Sequence[str]) -> set[str]:
        """Return those of the files that a content or a log is in."""
        return await self._driver.reading.read(blobs.known_files, files)

    async def drop_unknown_parts(self, after: str, before: float, limit: int) -> str | None:
        """Delete parts of files that have no content, of the next ``limit`` files; return where to
        continue (None at the end).
        """
        return await self._driver.serving.write(blobs.drop_unknown_parts, after, before, limit)

    async def prune_artifacts(
        self, after: int, before: float, limit: int, now: float
    ) -> tuple[int, int | None]:
        """Delete old artifacts of the next jobs; return how many, and where to continue."""
        return await self._driver.serving.write(blobs.prune_artifacts, after, before, limit, now)

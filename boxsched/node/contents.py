"""Where a node keeps contents: artifacts, and with ``--log-store`` old logs."""

import logging
from pathlib import Path

from boxsched.blobs.artifacts import ArtifactLimits, ArtifactStore
from boxsched.blobs.counted import CountedStore
from boxsched.blobs.database import DatabasePlace
from boxsched.blobs.folder import FolderPlace
from boxsched.blobs.places import LOG_STORE, BlobPlace, BlobPlaces, LogStore, WrongStore
from boxsched.clock import Clock
from boxsched.errors import NodeFailed
from boxsched.node.options import Options, S3Address
from boxsched.store.store import Store

log = logging.getLogger(__name__)

OWN_FOLDER = "blobs"  # in the data folder, for a service with SQLite


class NodeContents:
    """``log_store``: None if contents are in the database."""

    def __init__(self, options: Options, store: Store, clock: Clock, *, shared: bool) -> None:
        """``shared``: other nodes use the same database."""
        database = DatabasePlace(store.blobs, clock.now)
        self._rows = store.blobs
        where = options.log_store
        if where is None and not shared:
            where = options.data / OWN_FOLDER
        self.log_store: CountedStore | None = None
        if where is not None:
            self.log_store = CountedStore(log_store(where, options.log_store_endpoint))
        new: BlobPlace = database if self.log_store is None else self.log_store
        self.places = BlobPlaces(new, [database])
        limits = ArtifactLimits(options.artifact_limit, options.artifact_total)
        self.artifacts = ArtifactStore(store.blobs, self.places, limits, clock.now)

    async def open(self, cluster: str) -> None:
        """Make or check the log store. Raises NodeFailed."""
        answers = True
        if self.log_store is not None:
            try:
                answers = await self.log_store.open(cluster)
            except WrongStore as error:
                raise NodeFailed(f"--log-store: {error}") from None
        if answers:
            await self._look_for_old_files()

    async def _look_for_old_files(self) -> None:
        """Warn if the store lacks the oldest files: then it is probably another one than before."""
        old = await self._rows.oldest_files(LOG_STORE)
        if self.log_store is None:
            if old:
                log.warning(
                    "logs or artifacts are in a --log-store, and cannot be read without it: start"
                    " every node with that option"
                )
            return
        lacking = [name for name in old if await self.log_store.length(name) is None]
        if lacking:
            log.warning(
                "older logs or artifacts are not in the --log-store (for example %s): copy them"
                " from the place where they are, with `boxsched db copy-files`",
                lacking[0],
            )

    async def close(self) -> None:
        if self.log_store is not None:
            await self.log_store.close()


def log_store(where: Path | S3Address, endpoint: str | None) -> LogStore:
    """Return the log store in a folder or bucket, which is not open yet."""
    if isinstance(where, S3Address):
        from boxsched.blobs.bucket import BucketPlace  # needs the extra ``s3``

        return BucketPlace(where.bucket, where.prefix, endpoint)
    return FolderPlace(where)

"""Where a node keeps contents: artifacts, and with ``--log-store`` old logs."""

from boxsched.blobs.artifacts import ArtifactLimits, ArtifactStore
from boxsched.blobs.database import DatabasePlace
from boxsched.blobs.folder import FolderPlace
from boxsched.blobs.places import BlobPlace, BlobPlaces, LogStore, WrongStore
from boxsched.clock import Clock
from boxsched.errors import NodeFailed
from boxsched.node.options import Options, S3Address
from boxsched.store.store import Store

OWN_FOLDER = "blobs"  # in the data folder, for a service with SQLite


class NodeContents:
    """``log_store``: None if contents are in the database."""

    def __init__(self, options: Options, store: Store, clock: Clock, *, shared: bool) -> None:
        """``shared``: other nodes use the same database."""
        database = DatabasePlace(store.blobs, clock.now)
        self.log_store = _log_store(options, shared)
        new: BlobPlace = database if self.log_store is None else self.log_store
        self.places = BlobPlaces(new, [database])
        limits = ArtifactLimits(options.artifact_limit, options.artifact_total)
        self.artifacts = ArtifactStore(store.blobs, self.places, limits, clock.now)

    async def open(self, cluster: str) -> None:
        """Make or check the log store. Raises NodeFailed."""
        if self.log_store is not None:
            try:
                await self.log_store.open(cluster)
            except WrongStore as error:
                raise NodeFailed(f"--log-store: {error}") from None

    async def close(self) -> None:
        if self.log_store is not None:
            await self.log_store.close()


def _log_store(options: Options, shared: bool) -> LogStore | None:
    where = options.log_store
    if isinstance(where, S3Address):
        from boxsched.blobs.bucket import BucketPlace  # needs the extra ``s3``

        return BucketPlace(where.bucket, where.prefix, options.log_store_endpoint)
    if where is None and not shared:
        where = options.data / OWN_FOLDER
    return None if where is None else FolderPlace(where)

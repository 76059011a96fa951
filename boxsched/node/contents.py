"""Where a node keeps contents: artifacts, and with ``--log-store`` old logs."""

import asyncio

from boxsched.blobs.artifacts import ArtifactLimits, ArtifactStore
from boxsched.blobs.database import DatabasePlace
from boxsched.blobs.folder import FolderPlace, WrongFolder
from boxsched.blobs.places import BlobPlaces
from boxsched.clock import Clock
from boxsched.errors import NodeFailed
from boxsched.node.options import Options
from boxsched.store.store import Store

OWN_FOLDER = "blobs"  # in the data folder, for a service with SQLite


class NodeContents:
    """``folder``: None if contents are in the database."""

    def __init__(self, options: Options, store: Store, clock: Clock, *, shared: bool) -> None:
        """``shared``: other nodes use the same database."""
        path = options.log_store
        if path is None and not shared:
            path = options.data / OWN_FOLDER
        database = DatabasePlace(store.blobs, clock.now)
        self.folder = None if path is None else FolderPlace(path)
        new = database if self.folder is None else self.folder
        self.places = BlobPlaces(new, [database])
        limits = ArtifactLimits(options.artifact_limit, options.artifact_total)
        self.artifacts = ArtifactStore(store.blobs, self.places, limits, clock.now)

    async def open(self, cluster: str) -> None:
        """Make or check the folder. Raises NodeFailed."""
        if self.folder is not None:
            try:
                await asyncio.to_thread(self.folder.open, cluster)
            except WrongFolder as error:
                raise NodeFailed(f"--log-store: {error}") from None

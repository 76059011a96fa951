"""The options of ``boxsched serve``; see its ``--help``."""

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import attrs

from boxsched import __version__
from boxsched.folders import DATABASE
from boxsched.model import Policy
from boxsched.protocol.fingerprint import PROTOCOL, Parts, of_worker
from boxsched.protocol.lock_keys import DEFAULT_LOCK_KEY
from boxsched.protocol.timing import LOST_AFTER_SECONDS
from boxsched.protocol.wire import VERSION
from boxsched.worker.agent import images, limiting
from boxsched.worker.agent.images import NO_IMAGES, Images
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits


@attrs.frozen
class Options:
    """The options of a node. All times are in seconds."""

    data: Path
    database: str | None = attrs.field(default=None, repr=False)  # may contain a password
    redis: str | None = attrs.field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 8080
    advertise: str | None = None  # URL at which others reach this node; None = where it listens
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()  # for X-Forwarded-For
    connections_per_address: int = 1_000  # 0 = no limit
    boxes: int | None = None  # None = as many as cores
    box_driver: str = "process"
    isolation: Isolation | None = None  # for the driver bubblewrap
    limits: Limits = NO_LIMITS
    ssh_address: str | None = "127.0.0.1"  # where SSH sessions listen for direct connections
    images: Images = NO_IMAGES
    not_isolated: str | None = None  # why jobs are not isolated, if nobody chose that
    allow_mixed: bool = False
    policy: Policy = Policy.BACKFILL
    max_boxes: int | None = None
    priority_aging: float | None = None
    log_limit: int = 16 * 1024 * 1024
    log_store: Path | None = None  # a folder for artifacts and old logs, shared by all nodes
    artifact_limit: int = 1 << 30  # limit of one artifact, in bytes
    artifact_total: int = 4 << 30  # limit of all artifacts of a job, in bytes
    cache_size: int = 2 << 30  # limit of the in-process worker's cache, in bytes; 0 = no cache
    keep_history: float = 90.0  # days; 0 = forever
    keep_logs: float = 30.0  # days; 0 = forever
    stop_grace: float = 10.0
    shutdown_grace: float = 8.0
    name: str | None = None  # the node's name; None = generated once, kept in the data folder
    shards: int = 1
    lock_key: str = DEFAULT_LOCK_KEY
    retry_interval: float = 5.0
    lost_after: float = LOST_AFTER_SECONDS
    require_worker: tuple[tuple[str, str], ...] = ()  # parts of workers' fingerprints
    secrets_key_file: Path | None = None  # None = from the environment or the data folder

    allow_outgoing: tuple[str, ...] = ()  # private hosts that may get notifications
    external_url: str | None = None  # URL of the page for users; None = where the node listens

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data / DATABASE}"

    @property
    def required(self) -> Parts:
        """The values of parts that fingerprints of workers must have."""
        return {PROTOCOL: str(VERSION), **dict(self.require_worker)}

    @property
    def fingerprint(self) -> str:
        """Of the in-process worker."""
        return of_worker(
            protocol=VERSION,
            version=__version__,
            box_driver=self.box_driver,
            log_limit=self.log_limit,
            stop_grace=self.stop_grace,
            further={**limiting.parts(self.limits), **images.parts(self.images)},
        )

    @property
    def box_count(self) -> int:
        return self.boxes if self.boxes is not None else os.cpu_count() or 1

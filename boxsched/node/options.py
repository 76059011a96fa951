"""The options of ``boxsched serve``; see its ``--help``."""

import os
import re
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

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.'()-]+(/[A-Za-z0-9!_.'()-]+)*")
MAX_PREFIX = 255


@attrs.frozen
class S3Address:
    """A bucket of an object store, and the prefix of keys in it, "" or ending with "/"."""

    bucket: str
    prefix: str = ""

    @classmethod
    def read(cls, text: str) -> "S3Address":
        """Read ``s3://BUCKET[/PREFIX]``. Raises ValueError, with a message."""
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        prefix = prefix.removesuffix("/")
        if not _BUCKET.fullmatch(bucket):
            raise ValueError(
                "the name of a bucket has 3 to 63 lower-case letters, digits, dots and hyphens"
            )
        if prefix and (len(prefix) > MAX_PREFIX or not _PREFIX.fullmatch(prefix)):
            raise ValueError(
                f"a prefix has at most {MAX_PREFIX} letters, digits and !_.'()-, divided by /"
            )
        return cls(bucket, f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".removesuffix("/")


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
    tunnels_per_token: int = 50  # into SSH sessions, through this node
    boxes: int | None = None  # None = as many as cores
    box_driver: str = "process"
    isolation: Isolation | None = None  # for the driver bubblewrap
    limits: Limits = NO_LIMITS
    ssh_address: str | None = "127.0.0.1"  # where SSH sessions listen for direct connections
    images: Images = NO_IMAGES
    not_isolated: str | None = None  # why jobs are not isolated, if nobody chose that
    allow_mixed: bool = False
    # Settings of the default organization's queue. None: they stay as they are.
    policy: Policy | None = None
    max_boxes: int | None = None
    priority_aging: float | None = None
    log_limit: int = 16 * 1024 * 1024
    log_store: Path | S3Address | None = None  # for artifacts and old logs, of all nodes
    log_store_endpoint: str | None = None  # URL of the bucket's service; None = of the environment
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

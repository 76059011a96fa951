"""What a worker should be running."""

from collections.abc import Mapping

import attrs
import msgspec

from boxsched.model import BoxId, JobId, Kind, ProjectId, WorkloadId


class JobSecret(msgspec.Struct, frozen=True, array_like=True):
    """A secret for a job: in the variable ``name``, or in a file whose path is in that variable."""

    name: str
    value: str
    file: bool = False

    def __repr__(self) -> str:
        return f"JobSecret({self.name!r})"  # never the value


class CloneOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a repository is cloned. ``depth``: the number of commits of the history; None: all.
    ``submodules``: also clone submodules, recursively.
    """

    depth: int | None = None
    submodules: bool = False


class GitCredentials(msgspec.Struct, frozen=True, omit_defaults=True):
    """What git needs to read a private repository; the job does not get it.

    With ``origin`` (``https://HOST``), ``secret`` is a token for it, sent with the user name
    ``user``. Without ``origin``, ``secret`` is an SSH key. ``for_submodules``: git uses it for
    submodules, too.
    """

    secret: str
    origin: str | None = None
    user: str = ""
    for_submodules: bool = True

    def __repr__(self) -> str:
        return f"GitCredentials({self.origin!r})"  # never the secret


@attrs.frozen
class Assignment:
    """A job that a worker should be running now. All of them together are the worker's level."""

    job: JobId
    attempt: int
    lease_token: int
    box: BoxId
    ordinal: int
    stop: bool  # the worker should end it
    timeout_seconds: float
    name: str
    commands: tuple[str, ...]
    environment: Mapping[str, str]
    workload: WorkloadId
    number: int
    kind: Kind
    project: str
    branch: str | None
    tag: str | None
    server: str | None
    commit: str | None
    repository: str | None
    started: bool = False  # the store knows that it began: it must not be started again
    stop_reason: str | None = None  # who stops it and why, for its log
    show_commands: bool = True
    # For the node: the project whose secrets the job gets; None after its start.
    owner: ProjectId | None = None
    has_secrets: bool = False
    has_credentials: bool = False
    from_fork: bool = False
    # Added by the node (boxsched/secrets); the store does not contain them in this form.
    secrets: tuple[JobSecret, ...] = attrs.field(default=(), repr=False)
    refusal: str | None = None  # why the job cannot run: it fails with that reason
    clone: CloneOptions | None = None  # None: the whole history, no submodules
    credentials: GitCredentials | None = attrs.field(default=None, repr=False)
    # Of an SSH session: whose key may enter, and whether ports and agents may be forwarded.
    public_key: str | None = None
    ssh_forwarding: bool = False
    # The lease token under which the worker began this attempt: a person gave it back to the worker
    # with a new one.
    restores: int | None = None

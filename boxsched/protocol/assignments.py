"""What a worker should be running."""

from collections.abc import Mapping, Sequence

import attrs
import msgspec

from boxsched.model import BoxId, JobId, Kind, ProjectId, WorkloadId
from boxsched.protocol.artifacts import ProjectCache


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


class JobCache(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a worker's cache that a job uses.

    ``scope`` names the project. The job gets the files of the first of ``keys`` that is there. When
    it has passed, the files that match ``patterns`` are kept under ``keep``; None: they are not.
    """

    scope: str
    patterns: tuple[str, ...]
    keys: tuple[str, ...]
    keep: str | None = None


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
    artifacts: tuple[str, ...] = ()  # patterns of the files of its workspace that are kept
    cache: ProjectCache | None = None  # for the node: the project's
    build: WorkloadId | None = None  # for the node: the build that is deployed
    is_given_artifacts: bool = False  # it gets the artifacts of its build
    kept_cache: JobCache | None = None  # what it takes of the worker's cache, and keeps there
    image: str | None = None  # the system that the job sees; None: the worker's


def with_files(one: Assignment) -> Assignment:
    """Return the assignment with the files that the job is given and keeps.

    A branch has its own part of the cache and begins with that of the default branch. A fork reads
    the default branch's part and keeps its own; tags, deploys and sessions keep nothing.
    """
    if one.owner is None:  # it has begun
        return one
    cache = None
    if one.cache is not None:
        default = one.cache.default_branch
        shared = [f"branch {default}"] if default is not None else []
        own = (
            None if one.branch is None else f"{'fork' if one.from_fork else 'branch'} {one.branch}"
        )
        keys: Sequence[str] = list(dict.fromkeys([*([own] if own else []), *shared]))
        keep = own if one.kind is Kind.BUILD else None
        cache = JobCache(str(one.owner), one.cache.patterns, tuple(keys), keep)
    given = one.kind is Kind.DEPLOY and one.build is not None
    return attrs.evolve(one, kept_cache=cache, is_given_artifacts=given)

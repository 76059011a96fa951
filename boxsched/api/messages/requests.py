"""The types of requests: they validate, and openapi.json describes them.

Bounds that a type can say stand here; what needs more than one field is in ``checks``. The patterns
of texts stand in ``http.forms``.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from boxsched.api.auth.tokens import Role
from boxsched.api.http import forms
from boxsched.model import (
    MAX_BOXES,
    MAX_JOBS_A_WORKLOAD,
    MAX_MESSAGE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_PRIORITY,
    MIN_PRIORITY,
    Cancellation,
    ServerQueue,
)
from boxsched.protocol.inbox import Resolution

MAX_TIMEOUT_SECONDS = 30 * 86_400
MAX_TOKEN_SECONDS = 10 * 366 * 86_400
MAX_WORKERS_A_TOKEN = 10_000
MAX_LIST_ENTRIES = 1_000  # of commands, globs, rules, servers, schedules
MAX_COMMAND_CHARACTERS = 131_072

MAX_VARIABLES = 1_000
MAX_NOTE_CHARACTERS = 500
MAX_HOOKS = 20  # of a project
MAX_PARALLELISM = 100
MAX_SECRET_BYTES = 65_536
MAX_CLONE_DEPTH = 1_000_000

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=forms.NAME)]
# A branch or tag: git refuses one that begins with a dash, as it would read it as an option.
Ref = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=forms.ARGUMENT),
]
Glob = Name
Line = Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS, pattern=forms.LINE)]
Address = Annotated[str, Meta(min_length=1, max_length=2_048, pattern=forms.ARGUMENT)]
Message = Annotated[str, Meta(max_length=MAX_MESSAGE_CHARACTERS, pattern=forms.TEXT)]
Commit = Annotated[str, Meta(pattern=forms.COMMIT)]
Command = Annotated[str, Meta(max_length=MAX_COMMAND_CHARACTERS, pattern=forms.TEXT)]
BoxType = Annotated[str, Meta(pattern=forms.BOX_TYPE)]
Variable = Annotated[str, Meta(pattern=forms.VARIABLE)]
Value = Annotated[str, Meta(max_length=65_536, pattern=forms.TEXT)]
Priority = Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY)]
BoxCount = Annotated[int, Meta(ge=1, le=MAX_BOXES)]
Timeout = Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_SECONDS)]
Id = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
Secret = Annotated[str, Meta(min_length=1, max_length=1_024, pattern=forms.SECRET)]
PublicKey = Annotated[str, Meta(max_length=16_384, pattern=forms.PUBLIC_KEY)]
Cron = Annotated[
    str, Meta(min_length=6, max_length=MAX_NAME_CHARACTERS, pattern=forms.CONTROLS_FREE)
]

FilePath = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=forms.NAME)]
Globs = Annotated[tuple[Glob, ...], Meta(max_length=MAX_LIST_ENTRIES)]


class Progress(Struct, forbid_unknown_fields=True, frozen=True):
    """After so many canceled or stopped builds in a row, one is left to finish."""

    spare_after: Annotated[int, Meta(ge=1, le=1_000_000)]


class Rule(Struct, array_like=True, frozen=True):
    """A branch pattern, its strategy and, if it has one, its progress guarantee.

    ``beyond``: a fourth element is refused at its place, as ``forbid_unknown_fields`` would not.
    """

    pattern: Glob
    strategy: Cancellation
    progress: Progress | None = None
    beyond: None = None


class JobSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A job; its ``commands`` are one script for ``bash -e``.

    ``show_commands``: its log shows each command, behind ``+``, before what it puts out.
    ``parallelism``: so many jobs of it, ``NAME 1/N`` and so on.
    """

    name: Name
    commands: Annotated[tuple[Command, ...], Meta(min_length=1, max_length=MAX_LIST_ENTRIES)]
    box_type: BoxType | None = None
    environment: Annotated[Mapping[Variable, Value], Meta(max_length=MAX_VARIABLES)] = {}
    timeout_seconds: Timeout | None = None
    show_commands: bool = True
    parallelism: Annotated[int, Meta(ge=2, le=MAX_PARALLELISM)] | None = None


Jobs = Annotated[tuple[JobSettings, ...], Meta(min_length=1, max_length=MAX_JOBS_A_WORKLOAD)]
AnyJobs = Annotated[tuple[JobSettings, ...], Meta(max_length=MAX_JOBS_A_WORKLOAD)]


class ServerSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A server: what a deploy to it runs, and whether deploys start by themselves, after each
    passed build of ``branch``. ``guard``: only builds of that branch may be deployed."""

    jobs: AnyJobs = ()
    branch: Ref | None = None
    strategy: Literal["manual", "automatic"] = "manual"
    queue: ServerQueue = ServerQueue.ALL
    guard: bool = False


class Schedule(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A build of a branch at certain times."""

    cron: Cron
    branch: Ref
    time_zone: Name | None = None


class CloneSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How jobs get the repository. ``depth``: only so many commits of the history, by default all.
    ``submodules``: they too, and theirs."""

    depth: Annotated[int, Meta(ge=1, le=MAX_CLONE_DEPTH)] | None = None
    submodules: bool = False


class GitCredentials(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What git uses to reach the repository, one of the two: a private key in the form of OpenSSH
    or PEM, without a passphrase, or a token. Neither is ever read back."""

    ssh_key: Annotated[str, Meta(min_length=1, max_length=16_384, pattern=forms.SECRET)] | None = (
        None
    )
    https_token: (
        Annotated[str, Meta(min_length=1, max_length=1_024, pattern=forms.TOKEN)] | None
    ) = None


class StatusSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Commit statuses at a code host. ``api_url``: the base of its API, by default as the
    repository's URL tells it. ``token`` is never read back; without it the old one stays."""

    provider: Literal["github", "gitlab", "bitbucket", "bitbucket-server", "gitea", "forgejo"]
    api_url: Address | None = None
    token: Secret | UnsetType = UNSET


HookEvent = Literal[
    "workload.registered",
    "workload.queued",
    "workload.started",
    "workload.stopping",
    "workload.finished",
]


class Hook(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A URL that gets a POST for each of these events. ``secret`` signs it, and is never read back;
    without it the old one stays, null removes it."""

    url: Address
    events: Annotated[tuple[HookEvent, ...], Meta(min_length=1, max_length=5)] = (
        "workload.finished",
    )
    secret: Secret | UnsetType | None = UNSET


class ProjectSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A project's settings. ``name`` is the path's. ``webhook_secret`` and ``git_credentials`` are
    never read back: without them the old ones stay, null removes them."""

    name: Annotated[str, Meta(pattern=forms.PROJECT_NAME)] | UnsetType = UNSET
    repository: Address | None = None
    default_branch: Ref | None = None
    jobs: AnyJobs = ()
    jobs_from: FilePath | None = None
    clone: CloneSettings | None = None
    git_credentials: GitCredentials | UnsetType | None = UNSET
    servers: Annotated[Mapping[Name, ServerSettings], Meta(max_length=MAX_LIST_ENTRIES)] = {}
    priority_branches: Globs = ()
    cancellation: Annotated[tuple[Rule, ...], Meta(max_length=MAX_LIST_ENTRIES)] = ()
    max_boxes: BoxCount | None = None
    fail_fast: bool | Globs = False
    build_branches: Globs | None = None
    pull_requests: Literal["none", "own", "forks"] = "own"
    schedules: Annotated[tuple[Schedule, ...], Meta(max_length=MAX_LIST_ENTRIES)] = ()
    webhook_secret: Secret | UnsetType | None = UNSET
    statuses: StatusSettings | None = None
    hooks: Annotated[tuple[Hook, ...], Meta(max_length=MAX_HOOKS)] = ()


class AskBuild(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A build of a branch or of a tag: exactly one of them."""

    branch: Ref | None = None
    tag: Ref | None = None
    commit: Commit | None = None
    message: Message | None = None
    author: Line | None = None
    jobs: Jobs | None = None
    priority: Priority | None = None


class AskDeploy(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A deploy of a passed ``build``'s code, else of the server's branch or the default branch."""

    server: Name
    build: Id | None = None
    commit: Commit | None = None
    message: Message | None = None
    author: Line | None = None
    jobs: Jobs | None = None
    priority: Priority | None = None


class AskSession(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An SSH session with the code of a branch, or of a finished build or deploy."""

    public_key: PublicKey
    branch: Ref | None = None
    build: Id | None = None
    box_type: BoxType | None = None
    priority: Priority | None = None


class AskResolve(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What became of a job whose worker is away. ``again``: it gets another attempt."""

    result: Resolution
    note: Annotated[str, Meta(max_length=MAX_NOTE_CHARACTERS, pattern=forms.LINE)] = ""


class AskPriority(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Another priority for a workload that waits, and why."""

    priority: Priority
    note: Annotated[str, Meta(max_length=MAX_NOTE_CHARACTERS, pattern=forms.LINE)] = ""


class AskPause(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a pause covers: everything; a project; its builds of branches that match ``branch``; its
    deploys to ``server``. ``automatic``: only deploys that nobody asked for. ``until``: when it
    ends by itself."""

    note: Annotated[str, Meta(min_length=1, max_length=MAX_NOTE_CHARACTERS, pattern=forms.LINE)]
    project: Name | None = None
    branch: Glob | None = None
    server: Name | None = None
    automatic: bool = False
    until: Annotated[str, Meta(max_length=64, pattern=forms.LINE)] | None = None


class AskRevert(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The version of a project whose settings come back."""

    version: Annotated[int, Meta(ge=1, le=2**53)]


class AskToken(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A token for workers, or for an administrator; it never expires unless
    ``expires_in_seconds`` is given. ``max_workers``: how many workers may use it, default 100."""

    role: Role
    name: Name | None = None
    expires_in_seconds: Annotated[float, Meta(gt=0, le=MAX_TOKEN_SECONDS)] | None = None
    max_workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS_A_TOKEN)] | None = None


class AskSecret(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A secret of a project. ``file``: jobs get it as a file, and its path in the variable."""

    value: Annotated[str, Meta(min_length=1, max_length=MAX_SECRET_BYTES, pattern=forms.SECRET)]
    file: bool = False


class AskRotate(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One step of sealing everything anew with the first key; ``after``: ``next`` of the one
    before."""

    after: Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS * 2)] | None = None


class Nothing(Struct, forbid_unknown_fields=True, frozen=True):
    """The body of a call that takes none: empty, or an empty object."""

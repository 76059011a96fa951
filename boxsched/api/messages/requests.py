"""The types of requests. They validate requests, and openapi.json describes them.

Limits that a type can express are here; rules about several fields are in ``checks``. The patterns
of texts are in ``http.forms``.
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
    Policy,
    ServerQueue,
)
from boxsched.protocol.artifacts import MAX_PATTERNS
from boxsched.protocol.inbox import Resolution
from boxsched.protocol.shards import LOST_RETRIES

MAX_TIMEOUT_SECONDS = 30 * 86_400
MAX_TOKEN_SECONDS = 10 * 366 * 86_400
MAX_WORKERS_A_TOKEN = 10_000
MAX_SCOPE_PATTERNS = 100  # of projects or servers in a token
MAX_LIST_ENTRIES = 1_000  # in lists of commands, globs, rules, servers and schedules
MAX_COMMAND_CHARACTERS = 131_072

MAX_VARIABLES = 1_000
MAX_NOTE_CHARACTERS = 500
MAX_STOP_AFTER_SECONDS = 30 * 86_400
MAX_HOOKS = 20  # limit for a project
MAX_PARALLELISM = 100
MAX_RETRIES = 10  # for one cause
MAX_EXIT_STATUSES = 20
MAX_SECRET_BYTES = 65_536
MAX_CLONE_DEPTH = 1_000_000
MAX_AGING_SECONDS = 366 * 86_400

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=forms.NAME)]
# A branch or tag. A name must not begin with a dash: git would read it as an option.
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
Image = Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS, pattern=forms.IMAGE)]
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

Retried = Annotated[int, Meta(ge=0, le=MAX_RETRIES)]
# 1 to 255, without leading zeros
ExitStatus = Annotated[str, Meta(max_length=3, pattern=forms.EXIT_STATUS)]
FilePath = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=forms.NAME)]
Globs = Annotated[tuple[Glob, ...], Meta(max_length=MAX_LIST_ENTRIES)]
Patterns = Annotated[tuple[Glob, ...], Meta(min_length=1, max_length=MAX_SCOPE_PATTERNS)]
FilePatterns = Annotated[tuple[Glob, ...], Meta(max_length=MAX_PATTERNS)]


class Progress(Struct, forbid_unknown_fields=True, frozen=True):
    """After ``spare_after`` canceled or stopped builds in a row, one build may finish."""

    spare_after: Annotated[int, Meta(ge=1, le=1_000_000)]


class Rule(Struct, array_like=True, frozen=True):
    """A branch pattern, its strategy and, optionally, its progress guarantee.

    ``beyond`` refuses a fourth element, with its index; ``forbid_unknown_fields`` would not.
    """

    pattern: Glob
    strategy: Cancellation
    progress: Progress | None = None
    beyond: None = None


class RetrySettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How often a job is tried again in its Box. ``lost``: when its worker, or its supervisor
    there, was lost; never a deploy's. ``exit``: by exit status. ``any``: after any failure for
    which no other retry is left.
    """

    lost: Retried = 0
    exit: Annotated[Mapping[ExitStatus, Retried], Meta(max_length=MAX_EXIT_STATUSES)] = {}
    any: Retried = 0


class JobSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A job. Its ``commands`` together are one script for ``bash -e``.

    ``show_commands``: the log shows each command, after ``+``, before its output. ``parallelism``:
    run N jobs like this one, named ``NAME 1/N`` and so on. ``artifacts``: patterns of the files of
    the workspace that are kept. ``image``: the system that it sees.
    """

    name: Name
    commands: Annotated[tuple[Command, ...], Meta(min_length=1, max_length=MAX_LIST_ENTRIES)]
    box_type: BoxType | None = None
    environment: Annotated[Mapping[Variable, Value], Meta(max_length=MAX_VARIABLES)] = {}
    timeout_seconds: Timeout | None = None
    show_commands: bool = True
    parallelism: Annotated[int, Meta(ge=2, le=MAX_PARALLELISM)] | None = None
    retry: RetrySettings | None = None
    artifacts: FilePatterns = ()
    image: Image | None = None


Jobs = Annotated[tuple[JobSettings, ...], Meta(min_length=1, max_length=MAX_JOBS_A_WORKLOAD)]
AnyJobs = Annotated[tuple[JobSettings, ...], Meta(max_length=MAX_JOBS_A_WORKLOAD)]


class ServerSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A server. ``jobs``: what a deploy runs. ``strategy`` automatic: each passed build of
    ``branch`` is deployed, which needs jobs. ``guard``: only builds of that branch may be deployed.
    """

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
    """How jobs clone the repository. ``depth``: the number of commits of the history, by default
    all. ``submodules``: also clone submodules, recursively.
    """

    depth: Annotated[int, Meta(ge=1, le=MAX_CLONE_DEPTH)] | None = None
    submodules: bool = False


class GitCredentials(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Git's credentials for the repository, exactly one of the two: a private key without a
    passphrase, in OpenSSH or PEM format, or a token. No answer contains them.
    """

    ssh_key: Annotated[str, Meta(min_length=1, max_length=16_384, pattern=forms.SECRET)] | None = (
        None
    )
    https_token: (
        Annotated[str, Meta(min_length=1, max_length=1_024, pattern=forms.TOKEN)] | None
    ) = None


class StatusSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Commit statuses at a code host. ``api_url``: the base URL of its API, by default taken from
    the repository's URL. ``token``: no answer contains it; without it the old one is kept.
    """

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
    """A URL that gets a POST for each of ``events``. ``secret`` signs the request. No answer
    contains it; without it the old one is kept, and null removes it.
    """

    url: Address
    events: Annotated[tuple[HookEvent, ...], Meta(min_length=1, max_length=5)] = (
        "workload.finished",
    )
    secret: Secret | UnsetType | None = UNSET


class ProjectSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A project's settings. ``name``: the same as in the path. ``ssh_forwarding``: whether SSH
    sessions may forward ports and agents. ``ssh_timeout_seconds``: their time limit. No answer
    contains ``webhook_secret`` and ``git_credentials``; without them the old ones are kept, and
    null removes them.
    """

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
    ssh_forwarding: bool = False
    ssh_timeout_seconds: Timeout | None = None
    webhook_secret: Secret | UnsetType | None = UNSET
    statuses: StatusSettings | None = None
    hooks: Annotated[tuple[Hook, ...], Meta(max_length=MAX_HOOKS)] = ()
    cache: FilePatterns = ()


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
    """A deploy of the code of ``build``, which has passed; by default of the server's branch, or of
    the default branch.
    """

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
    """The result of a job whose worker is away. ``again``: start another attempt."""

    result: Resolution
    note: Annotated[str, Meta(max_length=MAX_NOTE_CHARACTERS, pattern=forms.LINE)] = ""


class AskDrain(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Drain a worker, and why. ``stop_after_seconds``: jobs that still run then are stopped."""

    note: Annotated[str, Meta(max_length=MAX_NOTE_CHARACTERS, pattern=forms.LINE)] = ""
    stop_after_seconds: Annotated[float, Meta(ge=0, le=MAX_STOP_AFTER_SECONDS)] | None = None


class AskPriority(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A new priority for a waiting workload. ``note``: the reason."""

    priority: Priority
    note: Annotated[str, Meta(max_length=MAX_NOTE_CHARACTERS, pattern=forms.LINE)] = ""


class AskPause(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A pause. It covers everything; or a project; or its builds of branches that match ``branch``;
    or its deploys to ``server``. ``automatic``: only automatic deploys. ``until``: when it ends
    automatically.
    """

    note: Annotated[str, Meta(min_length=1, max_length=MAX_NOTE_CHARACTERS, pattern=forms.LINE)]
    project: Name | None = None
    branch: Glob | None = None
    server: Name | None = None
    automatic: bool = False
    until: Annotated[str, Meta(max_length=64, pattern=forms.LINE)] | None = None


class AskRevert(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The version of a project to return to."""

    version: Annotated[int, Meta(ge=1, le=2**53)]


class OrganizationSettings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The settings of an organization's queue. ``max_boxes``: its plan, the limit of Boxes in use;
    null: none. ``priority_aging``: after this many seconds of waiting, priority grows by one point;
    null: never. ``lost_retries``: how often a lost job of a build gets another Box.
    """

    policy: Policy = Policy.BACKFILL
    max_boxes: Annotated[int, Meta(ge=0, le=MAX_BOXES)] | None = None
    priority_aging: Annotated[float, Meta(gt=0, le=MAX_AGING_SECONDS)] | None = None
    lost_retries: Annotated[int, Meta(ge=0, le=MAX_RETRIES)] = LOST_RETRIES


class AskToken(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A token. It never expires unless ``expires_in_seconds`` is given. ``projects``, ``servers``:
    patterns of the names that it is limited to. ``organization``: it is this organization's, not
    the instance's. A token for workers is for the first worker that connects with it; with
    ``max_workers`` it is for that many.
    """

    role: Role
    name: Name | None = None
    organization: Name | None = None
    projects: Patterns | None = None
    servers: Patterns | None = None
    expires_in_seconds: Annotated[float, Meta(gt=0, le=MAX_TOKEN_SECONDS)] | None = None
    max_workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS_A_TOKEN)] | None = None


class AskSecret(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A secret of a project. ``file``: jobs get it as a file, and its path in the variable."""

    value: Annotated[str, Meta(min_length=1, max_length=MAX_SECRET_BYTES, pattern=forms.SECRET)]
    file: bool = False


class AskRotate(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One step of sealing all values again with the first key. ``after``: ``next`` of the previous
    step.
    """

    after: Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS * 2)] | None = None


class Nothing(Struct, forbid_unknown_fields=True, frozen=True):
    """The body of a call without parameters: empty, or an empty object."""

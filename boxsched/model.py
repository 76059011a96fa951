"""The basic values: kinds, policies, limits, ids, lanes, and the order of the queue.

Nothing here does I/O. The core, the store, the API and the simulator all use these values.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NewType

from boxsched.globs import Automaton, first_match

ProjectId = NewType("ProjectId", int)
WorkloadId = NewType("WorkloadId", int)
JobId = NewType("JobId", int)
BoxId = NewType("BoxId", int)
WorkerId = NewType("WorkerId", int)
OrganizationId = NewType("OrganizationId", int)

DEFAULT_ORGANIZATION = OrganizationId(1)  # it is there from the start

MAX_JOBS_A_WORKLOAD = 1_000
MAX_NAME_CHARACTERS = 255
MAX_MESSAGE_CHARACTERS = 65_536  # limit of a commit's message
# of a project's patterns together; this many are matched in milliseconds
MAX_GLOB_CHARACTERS = 16_384
DEFAULT_TIMEOUT_SECONDS = 3_600
DEFAULT_BOX_TYPE = "default"  # the type of Boxes, and of jobs that name none
DEFAULT_BRANCH = "main"  # the branch of projects that name none
MAX_BOXES = 1_000_000  # upper limit of a plan and of a project's `max_boxes`
MAX_TUNNELS = 200  # into SSH sessions, through one node
MAX_PAUSES = 1_000  # at once, of an organization
MAX_ORGANIZATIONS = 1_000
_PART = "\x1f"  # the ASCII character that separates units
MAX_STOP_GRACE_SECONDS = 3_600.0  # a worker must end a stopped job within this time

_JOB_BITS = 10
assert 1 << _JOB_BITS > MAX_JOBS_A_WORKLOAD


def full_name(organization: OrganizationId, name: str) -> str:
    """Return the name of a project or a worker that is unique among all organizations.

    It is the name itself in the default organization; elsewhere the id of the organization and a
    character that no name may contain come before it.
    """
    return name if organization == DEFAULT_ORGANIZATION else f"{organization}{_PART}{name}"


def short_name(full: str) -> str:
    """Return the name within its organization (``full_name``)."""
    return full.rpartition(_PART)[2]


def job_id(workload: WorkloadId, index: int) -> JobId:
    """A job's id, made of its workload's id and its place in the workload."""
    return JobId(workload << _JOB_BITS | index)


def job_workload(job: JobId) -> WorkloadId:
    return WorkloadId(job >> _JOB_BITS)


def job_index(job: JobId) -> int:
    return job & (1 << _JOB_BITS) - 1


def workload_text(workload: WorkloadId) -> str:
    """Return a workload's id as the API shows it: ``w41``."""
    return f"w{workload}"


def job_text(job: JobId) -> str:
    """Return a job's id as the API shows it: ``w41-2``, the second job of w41."""
    return f"w{job_workload(job)}-{job_index(job) + 1}"


def parse_workload(text: str) -> WorkloadId | None:
    """Return the id for ``w41``; None for any other text."""
    digits = text[1:]
    if text[:1] != "w" or not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        return None
    return WorkloadId(int(digits)) if digits[0] != "0" else None


def parse_job(text: str) -> JobId | None:
    """Return the id for ``w41-2``; None for any other text."""
    head, dash, digits = text.partition("-")
    workload = parse_workload(head)
    if workload is None or not dash or not digits.isascii() or not digits.isdigit():
        return None
    if len(digits) > 4 or digits[0] == "0" or int(digits) > MAX_JOBS_A_WORKLOAD:
        return None
    return job_id(workload, int(digits) - 1)


class Kind(enum.StrEnum):
    BUILD = "build"
    DEPLOY = "deploy"
    SSH = "ssh"


def lane_key(
    kind: Kind, project: ProjectId, branch: str | None, tag: str | None, server: str | None
) -> str | None:
    """Return the name of the lane: its workloads run one after the other. None for an SSH session.

    The store keeps this text with each workload; see docs/scheduling.md, "Lanes".
    """
    if kind is Kind.SSH:
        return None
    if kind is Kind.DEPLOY:
        return f"{project}/server/{server}"
    return f"{project}/tag/{tag}" if tag is not None else f"{project}/branch/{branch}"


def lane_project(lane: str) -> ProjectId:
    """Return the project of a lane, from the lane's name."""
    return ProjectId(int(lane.partition("/")[0]))


def lane_branch(lane: str) -> str:
    """Return the branch of a lane of builds, from the lane's name."""
    return lane.split("/", 2)[2]


class Policy(enum.StrEnum):
    """What happens behind the first workload that does not fit (docs/scheduling.md, "Policies")."""

    STRICT = "strict"
    BEST_EFFORT = "best_effort"
    BACKFILL = "backfill"


class Cancellation(enum.StrEnum):
    """What a new build does to the earlier unfinished builds of its lane."""

    NONE = "none"
    QUEUED = "queued"
    ALL = "all"


class CancellationRule(NamedTuple):
    """An entry of a project's ``cancellation``: what new builds of matching branches do.

    ``spare_after``: after this many canceled or stopped builds in a row, one may finish
    (docs/scheduling.md, "Progress guarantee"); None = never.
    """

    pattern: str
    strategy: Cancellation
    spare_after: int | None = None


NO_CANCELLATION = CancellationRule("*", Cancellation.NONE)


class ServerQueue(enum.StrEnum):
    """What a new automatic deploy does to the earlier automatic ones that wait for its server."""

    ALL = "all"  # cancels nothing: each is deployed, one after the other
    NEWEST = "newest"  # it cancels them


MIN_PRIORITY, MAX_PRIORITY = 0, 100
PRIORITY_SSH = 80
PRIORITY_DEPLOY = 80
PRIORITY_HIGH_BRANCH = 70
PRIORITY_BUILD = 50


Globs = Sequence[str] | Automaton  # patterns, as given or compiled


def default_priority(kind: Kind, branch: str | None, priority_branches: Globs) -> int:
    if kind is Kind.SSH:
        return PRIORITY_SSH
    if kind is Kind.DEPLOY:
        return PRIORITY_DEPLOY
    if branch is not None and first_match(branch, priority_branches) is not None:
        return PRIORITY_HIGH_BRANCH
    return PRIORITY_BUILD


def cancellation_for(
    branch: str | None,
    rules: Sequence[CancellationRule],
) -> CancellationRule:
    """The rule of a branch: the first matching pattern, in order; tags have none."""
    if branch is not None:
        found = first_match(branch, tuple([rule.pattern for rule in rules]))
        if found is not None:
            return rules[found]
    return NO_CANCELLATION


def fails_fast(branch: str | None, setting: bool | Globs) -> bool:
    """Whether a project's ``fail_fast`` applies: never, always, or on branches that match a
    pattern.
    """
    if isinstance(setting, bool):
        return setting
    return branch is not None and first_match(branch, setting) is not None


def too_many_globs(lists: Mapping[str, Sequence[str]]) -> str | None:
    """Return the list with which a project's patterns exceed MAX_GLOB_CHARACTERS, or None."""
    total = 0
    for name, patterns in lists.items():
        total += sum(map(len, patterns))
        if total > MAX_GLOB_CHARACTERS:
            return name
    return None


# The order of the queue: least first. Criteria: rank, creation, registration.
QueueKey = tuple[float, float, int]


def queue_key(
    priority: int, created_at: float, order: int, priority_aging: float | None
) -> QueueKey:
    """docs/scheduling.md, "Queue order": with ageing, a point of priority is worth seconds."""
    if priority_aging is None:
        return (-priority, created_at, order)
    return (created_at - priority * priority_aging, 0.0, order)

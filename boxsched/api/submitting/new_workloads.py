"""Make a NewWorkload from a checked submission. It has no id and number yet."""

from typing import NoReturn

import attrs

from boxsched.api.http.not_found import no_such
from boxsched.api.http.public_keys import without_comment
from boxsched.api.messages import checks
from boxsched.api.messages.requests import AskBuild, AskDeploy, AskSession, JobSettings
from boxsched.api.submitting.known_projects import Known
from boxsched.errors import Conflict, Invalid
from boxsched.globs import first_match
from boxsched.model import (
    DEFAULT_BOX_TYPE,
    DEFAULT_BRANCH,
    NO_CANCELLATION,
    Cancellation,
    CancellationRule,
    Kind,
    WorkloadId,
    default_priority,
    fails_fast,
    parse_workload,
)
from boxsched.nearest import unknown
from boxsched.refs import check_branch, check_tag
from boxsched.states import Result, State
from boxsched.store.records import JobSpec, NewWorkload, Workload
from boxsched.store.store import Store

SESSION_SECONDS = 3_600.0
OUR_VARIABLES = "BOXSCHED_"
FAIL_FAST, FAIL_SLOW = "[fast failing]", "[fast failing skip]"  # in a commit's message


@attrs.frozen
class Code:
    """The values that a deploy or a session copies from the build or deploy that it names."""

    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    message: str | None = None
    author: str | None = None
    build: WorkloadId | None = None
    from_fork: bool = False

    @classmethod
    def of(cls, source: Workload | None) -> "Code":
        if source is None:
            return cls()
        return cls(
            source.branch,
            source.tag,
            source.commit,
            source.message,
            source.author,
            source.id,
            source.from_fork,
        )


async def find(store: Store, text: str, field: str | None = None) -> Workload:
    """Return the workload with this id, with its jobs. Raises NotFound, also for an invalid id."""
    id_ = parse_workload(text)
    workload = None if id_ is None else await store.workload(id_)
    return workload or await missing(store, text, id_, field)


async def subject(store: Store, text: str, field: str | None = None) -> Workload:
    """Like ``find``, for the workload that a command concerns."""
    id_ = parse_workload(text)
    workload = None if id_ is None else await store.subject(id_)
    return workload or await missing(store, text, id_, field)


async def missing(store: Store, text: str, id_: WorkloadId | None, field: str | None) -> NoReturn:
    hint = ""
    if id_ is not None and await store.was_given(id_):
        hint = ": finished workloads are deleted when they are old"
    raise no_such("workload", text, field, hint)


def build(known: Known, ask: AskBuild, now: float) -> NewWorkload:
    if (ask.branch is None) == (ask.tag is None):
        raise Invalid("give exactly one of branch and tag", "tag" if ask.tag else "branch")
    settings = known.settings
    if settings.repository is not None and ask.commit is None:
        check_branch(ask.branch, "branch")
        check_tag(ask.tag, "tag")
    rule = _cancellation(known, ask.branch)
    return NewWorkload(
        project=known.project.id,
        project_version=known.project.version,
        shard=known.organization.shard,
        kind=Kind.BUILD,
        branch=ask.branch,
        tag=ask.tag,
        server=None,
        commit=ask.commit,
        message=ask.message,
        author=ask.author,
        priority=(
            default_priority(Kind.BUILD, ask.branch, known.globs.priority)
            if ask.priority is None
            else ask.priority
        ),
        cancellation=rule.strategy,
        spare_after=rule.spare_after,
        fail_fast=fail_fast(known, ask.branch, ask.message),
        jobs=(
            ()  # read from the file after the build is registered
            if ask.jobs is None and settings.jobs_from is not None
            else _jobs(ask.jobs, known.jobs, "its project has no jobs either")
        ),
        created_at=now,
    )


def _cancellation(known: Known, branch: str | None) -> CancellationRule:
    rules = known.settings.cancellation
    found = None if branch is None else first_match(branch, known.globs.cancellation)
    if found is None:
        return NO_CANCELLATION
    rule = rules[found]
    spare_after = None if rule.progress is None else rule.progress.spare_after
    return CancellationRule(rule.pattern, rule.strategy, spare_after)


def fail_fast(known: Known, branch: str | None, message: str | None) -> bool:
    """Return the project's setting, unless the commit's message overrides it."""
    if message is not None:
        if FAIL_SLOW in message:
            return False
        if FAIL_FAST in message:
            return True
    return fails_fast(branch, known.globs.fail_fast)


def deploy(known: Known, ask: AskDeploy, source: Workload | None, now: float) -> NewWorkload:
    server = known.settings.servers.get(ask.server)
    if server is None:
        raise Invalid(
            unknown(
                f"the project has no server {ask.server[:80]!a}", ask.server, known.settings.servers
            ),
            "server",
        )
    if source is not None and (
        source.project != known.project.id
        or source.kind is not Kind.BUILD
        or source.result is not Result.PASSED
    ):
        raise Invalid("only a passed build of this project can be deployed", "build")
    _check_guard(known, ask.server, source, ask.commit)
    configured = checks.specs(server.jobs, DEFAULT_BOX_TYPE)
    code = Code.of(source)
    if source is None:
        code = Code(branch=server.branch or known.settings.default_branch)
    message = code.message if ask.message is None else ask.message
    if _is_without_code(known, ask, source):
        assert source is not None
        note = (
            f"build #{source.number} has no commit: it ran without a repository, like this deploy"
        )
        if ask.message is None:
            message = f"{message} ({note})" if message else note
    return NewWorkload(
        project=known.project.id,
        project_version=known.project.version,
        shard=known.organization.shard,
        kind=Kind.DEPLOY,
        branch=code.branch,
        tag=code.tag,
        server=ask.server,
        commit=ask.commit or code.commit,
        message=message,
        author=code.author if ask.author is None else ask.author,
        priority=default_priority(Kind.DEPLOY, None, ()) if ask.priority is None else ask.priority,
        cancellation=Cancellation.NONE,
        fail_fast=fail_fast(known, None, message),
        jobs=_jobs(ask.jobs, configured, "the server has no jobs in the project's settings"),
        created_at=now,
        build=code.build,
        from_fork=code.from_fork,
        queue=server.queue,
    )


def _check_guard(known: Known, name: str, source: Workload | None, commit: str | None) -> None:
    """Raise Invalid if the server is guarded, and this is not the code of a build of its branch."""
    server = known.settings.servers.get(name)
    if server is None or not server.guard:
        return
    follows = server.branch or known.settings.default_branch or DEFAULT_BRANCH
    if source is None or source.branch != follows:
        raise Invalid(f"{name} accepts only builds of {follows}: give one", "build")
    if commit is not None and not commit.startswith(source.commit or " "):
        raise Invalid(f"{name} accepts only builds of {follows}: this is not its commit", "commit")


def _is_without_code(known: Known, ask: AskDeploy, source: Workload | None) -> bool:
    """Whether the deployed build had no repository, although the project has one now.

    Then the deploy also runs without a repository (``insert_workloads``): the branch's newest
    commit was not built.
    """
    if source is None or source.commit is not None or ask.commit is not None:
        return False
    return known.settings.repository is not None


def session(known: Known, ask: AskSession, source: Workload | None, now: float) -> NewWorkload:
    if ask.branch is not None and source is not None:
        raise Invalid("give at most one of branch and build", "build")
    if source is not None and (
        source.project != known.project.id
        or source.kind is Kind.SSH
        or source.state is not State.FINISHED
    ):
        raise Invalid("only a finished build or deploy of this project can be entered", "build")
    if known.settings.repository is not None:
        check_branch(ask.branch, "branch")
    code = Code.of(source)
    return NewWorkload(
        project=known.project.id,
        project_version=known.project.version,
        shard=known.organization.shard,
        kind=Kind.SSH,
        branch=ask.branch or code.branch,
        tag=code.tag,
        server=None,
        commit=code.commit,
        message=code.message,
        author=code.author,
        priority=default_priority(Kind.SSH, None, ()) if ask.priority is None else ask.priority,
        cancellation=Cancellation.NONE,
        fail_fast=False,
        jobs=(_session_job(known, ask, source),),
        created_at=now,
        build=code.build,
        from_fork=code.from_fork,
        public_key=without_comment(ask.public_key),
        ssh_forwarding=known.settings.ssh_forwarding,
    )


def _session_job(known: Known, ask: AskSession, source: Workload | None) -> JobSpec:
    """Return the job of a session. Its variables are those of the jobs of the build or deploy that
    it enters, or of the project's; without the ones that have several values there.
    """
    found: dict[str, set[str]] = {}
    size = 0
    for job in known.jobs if source is None else source.jobs:
        for name, value in job.environment.items():
            size += len(name) + len(value.encode())
            if not name.startswith(OUR_VARIABLES) and size <= checks.MAX_ENVIRONMENT_BYTES:
                found.setdefault(name, set()).add(value)
    environment = {name: values.pop() for name, values in found.items() if len(values) == 1}
    seconds = known.settings.ssh_timeout_seconds or SESSION_SECONDS
    return JobSpec("ssh", ask.box_type or DEFAULT_BOX_TYPE, float(seconds), (), environment)


def rebuild(known: Known, original: Workload, source: Workload | None, now: float) -> NewWorkload:
    """Return a workload with the same jobs on the same commit. It cancels no other workload.

    ``source``: the build that a deploy deployed. Raises Conflict if its server is guarded by now.
    """
    if original.server is not None:
        try:
            _check_guard(known, original.server, source, original.commit)
        except Invalid as error:
            raise Conflict(error.message) from None
    return NewWorkload(
        project=original.project,
        project_version=known.project.version,
        shard=known.organization.shard,
        kind=original.kind,
        branch=original.branch,
        tag=original.tag,
        server=original.server,
        commit=original.commit,
        message=original.message,
        author=original.author,
        priority=original.priority,
        cancellation=Cancellation.NONE,
        fail_fast=original.fail_fast,
        jobs=tuple(
            [
                JobSpec(
                    job.name,
                    job.box_type,
                    job.timeout_seconds,
                    job.commands,
                    job.environment,
                    job.show_commands,
                    job.retry,
                    job.artifacts,
                    image=job.image,
                )
                for job in original.jobs
            ]
        ),
        created_at=now,
        rebuild_of=original.id,
        from_fork=original.from_fork,
        build=original.build,
        public_key=original.public_key,
    )


def within_limits(new: NewWorkload, project: int | None, plan: int | None) -> None:
    """Raise Invalid if it needs more Boxes than it can ever get: it would wait forever."""
    problem = too_many(len(new.jobs), project, plan)
    if problem is not None:
        raise Invalid(problem, "jobs")


def too_many(boxes: int, project: int | None, plan: int | None) -> str | None:
    """Return why a workload can never get so many Boxes, or None if it can."""
    if plan is not None and boxes > plan:
        return f"it needs {boxes} Boxes; the plan has {plan}"
    if project is not None and boxes > project:
        return f"it needs {boxes} Boxes; its project may use {project}"
    return None


def _jobs(
    own: tuple[JobSettings, ...] | None, configured: tuple[JobSpec, ...], lack: str
) -> tuple[JobSpec, ...]:
    if own is not None:
        checks.bulk(own, "jobs")
        return checks.specs(own, DEFAULT_BOX_TYPE)
    if not configured:
        raise Invalid(f"it has no jobs, and {lack}", "jobs")
    return configured

"""Checks of rules that a type cannot state; each raises Invalid (422) with the field to change."""

import re
from collections.abc import Iterator, Mapping, Sequence

from boxsched.api.messages.cron_expressions import check_cron, check_time_zone
from boxsched.api.messages.git_credentials import check_git_credentials
from boxsched.api.messages.repository_urls import check_repository
from boxsched.api.messages.requests import JobSettings, ProjectSettings, RetrySettings
from boxsched.errors import Invalid
from boxsched.model import (
    DEFAULT_TIMEOUT_SECONDS,
    MAX_GLOB_CHARACTERS,
    MAX_JOBS_A_WORKLOAD,
    MAX_NAME_CHARACTERS,
    too_many_globs,
)
from boxsched.protocol.retries import Retries
from boxsched.refs import check_branch
from boxsched.store.records import JobSpec
from boxsched.texts import encodable

# limit for a job, because the system limits a program's environment
MAX_ENVIRONMENT_BYTES = 131_072
MAX_SCRIPT_BYTES = 524_288  # limit for all commands of a job together

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


def plain(text: str, field: str) -> str:
    """Check a name from a URL or header: its length, control characters, valid Unicode."""
    if not text or len(text) > MAX_NAME_CHARACTERS or _CONTROLS.search(text) or not encodable(text):
        raise Invalid(
            f"must be 1 to {MAX_NAME_CHARACTERS} characters without control characters", field
        )
    return text


def settings(name: str, asked: ProjectSettings) -> None:
    """Check a project's settings, beyond what their types check."""
    if asked.name and asked.name != name:
        raise Invalid(f"must be {name}: a project's name cannot be changed", "name")
    if asked.repository is not None:
        check_repository(asked.repository)
        _branches(asked)
    if asked.jobs_from is not None:
        _jobs_from(asked.jobs_from, asked.repository)
    if asked.clone is not None and asked.repository is None:
        raise Invalid("needs a repository to clone", "clone")
    check_git_credentials(asked)
    _globs(asked)
    _file_patterns(asked.cache, "cache")
    bulk(asked.jobs, "jobs")
    for server, its in asked.servers.items():
        bulk(its.jobs, f"servers.{server}.jobs")
        if its.strategy == "automatic" and not its.jobs:
            raise Invalid(
                "must have at least 1, because an automatic deploy runs the server's jobs",
                f"servers.{server}.jobs",
            )


def schedules(asked: ProjectSettings) -> None:
    """Check a project's schedules. A check may take milliseconds: call it in a thread."""
    for index, schedule in enumerate(asked.schedules):
        check_cron(schedule.cron, f"schedules[{index}].cron")
        if schedule.time_zone is not None:
            check_time_zone(schedule.time_zone, f"schedules[{index}].time_zone")


def _jobs_from(path: str, repository: str | None) -> None:
    if repository is None:
        raise Invalid("needs a repository to read the file from", "jobs_from")
    parts = path.split("/")
    if path.startswith("-") or any(part in ("", ".", "..") for part in parts) or ":" in path:
        raise Invalid(
            "must be the path of a file in the repository, such as .boxsched.yml", "jobs_from"
        )


def _branches(asked: ProjectSettings) -> None:
    check_branch(asked.default_branch, "default_branch")
    for server, its in asked.servers.items():
        check_branch(its.branch, f"servers.{server}.branch")
    for index, schedule in enumerate(asked.schedules):
        check_branch(schedule.branch, f"schedules[{index}].branch")


def _file_patterns(patterns: Sequence[str], field: str) -> None:
    for index, pattern in enumerate(patterns):
        if any(part in ("", "..") for part in pattern.removesuffix("/").split("/")):
            raise Invalid(
                "must be a path or pattern in the workspace, such as dist/*, without ..",
                f"{field}[{index}]",
            )


def _globs(asked: ProjectSettings) -> None:
    fail_fast = asked.fail_fast
    field = too_many_globs(
        {
            "priority_branches": asked.priority_branches,
            "cancellation": [rule.pattern for rule in asked.cancellation],
            "fail_fast": () if isinstance(fail_fast, bool) else fail_fast,
            "build_branches": asked.build_branches or (),
        }
    )
    if field is not None:
        raise Invalid(
            f"a project's patterns must be at most {MAX_GLOB_CHARACTERS} characters together",
            field,
        )


def bulk(jobs: Sequence[JobSettings], field: str) -> None:
    """Refuse jobs that could never start, and jobs with the same name."""
    names: set[str] = set()
    for index, job in enumerate(jobs):
        for name, _ in _parts(job):
            if name in names:
                raise Invalid("an earlier job has the same name", f"{field}[{index}].name")
            if len(name) > MAX_NAME_CHARACTERS:
                raise Invalid("is too long when its number is appended", f"{field}[{index}].name")
            names.add(name)
        if len(names) > MAX_JOBS_A_WORKLOAD:
            raise Invalid(f"a workload has at most {MAX_JOBS_A_WORKLOAD} jobs", f"{field}[{index}]")
        if sum(map(len, job.commands)) > MAX_SCRIPT_BYTES // 4:
            size = sum(len(command.encode()) for command in job.commands)
            if size > MAX_SCRIPT_BYTES:
                raise Invalid(
                    f"a job's commands have at most {MAX_SCRIPT_BYTES} bytes together",
                    f"{field}[{index}].commands",
                )
        _file_patterns(job.artifacts, f"{field}[{index}].artifacts")
        if job.environment:
            size = sum(len(k) + len(v.encode()) + 2 for k, v in job.environment.items())
            if size > MAX_ENVIRONMENT_BYTES:
                raise Invalid(
                    f"a job's environment has at most {MAX_ENVIRONMENT_BYTES} bytes together",
                    f"{field}[{index}].environment",
                )


def specs(jobs: Sequence[JobSettings], default_box_type: str) -> tuple[JobSpec, ...]:
    """Return the jobs in the store's format, with default values filled in."""
    return tuple(
        [
            JobSpec(
                name=name,
                box_type=job.box_type or default_box_type,
                timeout_seconds=job.timeout_seconds or float(DEFAULT_TIMEOUT_SECONDS),
                commands=job.commands,
                environment=environment,
                show_commands=job.show_commands,
                retry=_retries(job.retry),
                artifacts=job.artifacts,
                image=job.image,
            )
            for job in jobs
            for name, environment in _parts(job)
        ]
    )


def _retries(asked: RetrySettings | None) -> Retries | None:
    if asked is None:
        return None
    exits = sorted((int(status), times) for status, times in asked.exit.items() if times)
    retries = Retries(asked.lost, tuple(exits), asked.any)
    return retries if retries.total else None


def _parts(job: JobSettings) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield name and environment of one job, or of as many jobs as its ``parallelism``."""
    count = job.parallelism
    if count is None:
        yield job.name, job.environment
        return
    for number in range(1, count + 1):
        place = {"BOXSCHED_JOB_INDEX": str(number), "BOXSCHED_JOB_COUNT": str(count)}
        yield f"{job.name} {number}/{count}", {**job.environment, **place}

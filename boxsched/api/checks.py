"""What a type cannot say: checks, each raising Invalid (422) with the field to be changed."""

import re
from collections.abc import Collection, Sequence
from urllib.parse import unquote, unquote_to_bytes

from multidict import MultiMapping

from boxsched.api.crons import check_cron, check_time_zone
from boxsched.api.repositories import check_repository
from boxsched.api.schema import JobSettings, ProjectSettings
from boxsched.errors import Invalid
from boxsched.model import (
    DEFAULT_TIMEOUT_SECONDS,
    MAX_GLOB_CHARACTERS,
    MAX_NAME_CHARACTERS,
    too_many_globs,
)
from boxsched.nearest import unknown
from boxsched.store.values import JobSpec
from boxsched.texts import encodable

MAX_ENVIRONMENT_BYTES = 131_072  # of a job: what a program can be given is bounded
MAX_SCRIPT_BYTES = 524_288  # of a job's commands together

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


def plain(text: str, field: str) -> str:
    """A name from a URL or header: bounded, no control characters, and really text."""
    if not text or len(text) > MAX_NAME_CHARACTERS or _CONTROLS.search(text) or not encodable(text):
        raise Invalid(
            f"1 to {MAX_NAME_CHARACTERS} characters are asked for, no control characters", field
        )
    return text


def parameters(given: MultiMapping[str], known: Collection[str], raw: str = "") -> None:
    """Of a URL's query: no name that is not known, none twice, and all of it text. ``raw``: the
    query as it was sent; in ``given`` other characters stand for bytes that are no UTF-8."""
    if "%" in raw:
        _check_encoding(raw)
    for name in given:
        field = name.encode("utf-8", "backslashreplace").decode()[:MAX_NAME_CHARACTERS]
        if name not in known:
            raise Invalid(unknown("unknown query parameter", name, known), field)
        if len(given.getall(name)) > 1:
            raise Invalid("must be given once", field)


def _check_encoding(raw: str) -> None:
    for part in raw.split("&"):
        name, _, value = part.partition("=")
        try:
            unquote_to_bytes(name).decode()
            unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            field = unquote(name, errors="backslashreplace")[:MAX_NAME_CHARACTERS]
            raise Invalid("must be valid UTF-8", field) from None


def settings(name: str, asked: ProjectSettings) -> None:
    """A project's settings, beyond what their types say."""
    if asked.name and asked.name != name:
        raise Invalid(f"the project's name is {name}: it cannot be changed", "name")
    if asked.repository is not None:
        check_repository(asked.repository)
    _globs(asked)
    bulk(asked.jobs, "jobs")
    for server, its in asked.servers.items():
        bulk(its.jobs, f"servers.{server}.jobs")
    for index, schedule in enumerate(asked.schedules):
        check_cron(schedule.cron, f"schedules[{index}].cron")
        if schedule.time_zone is not None:
            check_time_zone(schedule.time_zone, f"schedules[{index}].time_zone")


def _globs(asked: ProjectSettings) -> None:
    fail_fast = asked.fail_fast
    field = too_many_globs(
        {
            "priority_branches": asked.priority_branches,
            "cancellation": [pattern for pattern, _ in asked.cancellation],
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
    """Jobs that could never be started, or not be told apart, are refused now."""
    names: set[str] = set()
    for index, job in enumerate(jobs):
        if job.name in names:
            raise Invalid("another job before has this name", f"{field}[{index}].name")
        names.add(job.name)
        if sum(map(len, job.commands)) > MAX_SCRIPT_BYTES // 4:
            size = sum(len(command.encode()) for command in job.commands)
            if size > MAX_SCRIPT_BYTES:
                raise Invalid(
                    f"a job's commands have at most {MAX_SCRIPT_BYTES} bytes together",
                    f"{field}[{index}].commands",
                )
        if job.environment:
            size = sum(len(k) + len(v.encode()) + 2 for k, v in job.environment.items())
            if size > MAX_ENVIRONMENT_BYTES:
                raise Invalid(
                    f"a job's environment has at most {MAX_ENVIRONMENT_BYTES} bytes together",
                    f"{field}[{index}].environment",
                )


def specs(jobs: Sequence[JobSettings], default_box_type: str) -> tuple[JobSpec, ...]:
    """Jobs as the store takes them, with what was left open filled in."""
    return tuple(
        [
            JobSpec(
                name=job.name,
                box_type=job.box_type or default_box_type,
                timeout_seconds=job.timeout_seconds or float(DEFAULT_TIMEOUT_SECONDS),
                commands=job.commands,
                environment=job.environment,
                show_commands=job.show_commands,
            )
            for job in jobs
        ]
    )

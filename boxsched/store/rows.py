"""Convert rows of named blocks to values, and values to the texts in rows."""

import functools
from collections.abc import Mapping

import msgspec

from boxsched.model import Cancellation, Kind, Policy, short_name
from boxsched.protocol.artifacts import ProjectCache
from boxsched.protocol.assignments import Assignment, CloneOptions
from boxsched.protocol.batches import StoredEvent
from boxsched.protocol.retries import Retries
from boxsched.protocol.shards import Box, LoadedJob, LoadedWorkload, Organization, Pause, Project
from boxsched.protocol.workers import BoxRow, Drain, Pulse
from boxsched.states import JobState, Result, State, StopCause
from boxsched.store.blocks import load
from boxsched.store.mapping import mapper
from boxsched.store.records import (
    DatabaseHistory,
    Job,
    SetAsideCommand,
    SshPlace,
    SshWorker,
    Worker,
    Workload,
)

# A look-up in a dict is ten times faster than calling an enum. None means "none yet".
STATES: Mapping[str, State] = {each.value: each for each in State}
JOB_STATES: Mapping[str, JobState] = {each.value: each for each in JobState}
KINDS: Mapping[str, Kind] = {each.value: each for each in Kind}
CANCELLATIONS: Mapping[str, Cancellation] = {each.value: each for each in Cancellation}
RESULTS: Mapping[str | None, Result | None] = {None: None} | {each.value: each for each in Result}
CAUSES: Mapping[str | None, StopCause | None] = {None: None} | {
    each.value: each for each in StopCause
}

_encode = msgspec.json.Encoder().encode
_commands = msgspec.json.Decoder(tuple[str, ...])
_environment = msgspec.json.Decoder(dict[str, str])
_cache = msgspec.json.Decoder(ProjectCache)
_clone = msgspec.json.Decoder(CloneOptions)
_retries = msgspec.json.Decoder(Retries)
_durations = msgspec.json.Decoder(tuple[float, ...])

# Builds of one project repeat the same scripts, so this many are cached, 8 MiB of text at most.
# Longer scripts are rare and are parsed each time.
_SCRIPTS_KEPT = 1_024
_SCRIPT_CHARACTERS = 4_096


def json_text(value: object) -> str:
    return _encode(value).decode()


_kept_commands = functools.lru_cache(_SCRIPTS_KEPT)(_commands.decode)
_kept_environment = functools.lru_cache(_SCRIPTS_KEPT)(_environment.decode)
_kept_retries = functools.lru_cache(_SCRIPTS_KEPT)(_retries.decode)
_kept_cache = functools.lru_cache(_SCRIPTS_KEPT)(_cache.decode)
_kept_clone = functools.lru_cache(_SCRIPTS_KEPT)(_clone.decode)


def commands(text: str) -> tuple[str, ...]:
    short = len(text) <= _SCRIPT_CHARACTERS
    return _kept_commands(text) if short else _commands.decode(text)


def environment(text: str) -> Mapping[str, str]:
    short = len(text) <= _SCRIPT_CHARACTERS
    return _kept_environment(text) if short else _environment.decode(text)


def clone(text: str | None) -> CloneOptions | None:
    return None if text is None else _kept_clone(text)


def retries(text: str | None) -> Retries | None:
    return None if text is None else _kept_retries(text)


def retries_text(value: Retries | None) -> str | None:
    return None if value is None else json_text(value)


def cache(text: str | None) -> ProjectCache | None:
    return None if text is None else _kept_cache(text)


def texts(text: str | None) -> tuple[str, ...]:
    return () if text is None else _commands.decode(text)


def durations(text: str) -> tuple[float, ...]:
    return _durations.decode(text)


_FLEET = load("fleet.sql")
_LEADING = load("leading.sql")
_ORGANIZATIONS = load("organizations.sql")
_PROJECTS = load("projects.sql")
_READING = load("reading.sql")

organization = mapper(
    Organization,
    _LEADING["load_organization"].returns,
    *(_ORGANIZATIONS[name].returns for name in ("organizations", "organization", "named")),
    policy=Policy,
)
project = mapper(
    Project,
    _LEADING["load_projects"].returns,
    _PROJECTS["project"].returns,
    _PROJECTS["projects"].returns,
    _PROJECTS["put_project"].returns,
    load("schedules.sql")["unscheduled"].returns,
    name=short_name,
)
workload = mapper(
    Workload,
    *(_READING[name].returns for name in ("workload", "shown", "unfinished", "recently_finished")),
    given=("jobs",),
    columns_of={"commit": "commit_hash"},
    project_name=short_name,
    kind=KINDS,
    cancellation=CANCELLATIONS,
    fail_fast=bool,
    state=STATES,
    result=RESULTS,
    automatic=bool,
    rollback=bool,
    from_fork=bool,
    spared=bool,
)
job = mapper(
    Job,
    _READING["jobs_of"].returns,
    _READING["jobs_listed"].returns,
    commands=commands,
    environment=environment,
    state=JOB_STATES,
    result=RESULTS,
    show_commands=bool,
    retry=retries,
    retried=retries,
    artifacts=commands,
)
history = mapper(DatabaseHistory, _READING["latest_history"].returns, restored=bool)
event = mapper(StoredEvent, _READING["events_after"].returns, data=str.encode)
set_aside = mapper(
    SetAsideCommand,
    *(_READING[name].returns for name in ("set_aside", "set_aside_of", "set_aside_one")),
)
box = mapper(Box, _LEADING["load_boxes"].returns, retired=bool)
shown_box = mapper(Box, _FLEET["boxes"].returns, retired=bool, worker_name=short_name)
worker = mapper(
    Worker,
    _FLEET["workers"].returns,
    name=short_name,
    drain_done=bool,
    drain_automatic=bool,
    differs=texts,
    notes=texts,
)
box_row = mapper(BoxRow, _FLEET["boxes_of_worker"].returns)
drain = mapper(
    Drain, _LEADING["load_drains"].returns, unused=("worker",), done=bool, automatic=bool
)
pulse = mapper(
    Pulse,
    _FLEET["pulses"].returns,
    columns_of={"worker": "id"},
    connected=bool,
    name=short_name,
    differs=texts,
)
assignment = mapper(
    Assignment,
    _FLEET["assignments"].inner["assignments"],
    project=short_name,
    stop=bool,
    commands=commands,
    environment=environment,
    kind=KINDS,
    started=bool,
    show_commands=bool,
    has_secrets=bool,
    has_credentials=bool,
    from_fork=bool,
    clone=clone,
    ssh_forwarding=bool,
    artifacts=commands,
    cache=cache,
)
_SSH_SESSIONS = load("ssh_sessions.sql")
ssh_place = mapper(SshPlace, _SSH_SESSIONS["ssh_sessions"].returns, unused=("workload",))
ssh_worker = mapper(SshWorker, _SSH_SESSIONS["ssh_worker"].returns, is_connected=bool)
loaded_job = mapper(
    LoadedJob,
    _LEADING["load_jobs"].returns,
    unused=("id",),
    state=JOB_STATES,
    result=RESULTS,
    retry=retries,
    retried=retries,
)
loaded_workload = mapper(
    LoadedWorkload,
    _LEADING["load_workloads"].returns,
    given=("jobs",),
    unused=("boxes",),
    kind=KINDS,
    cancellation=CANCELLATIONS,
    fail_fast=bool,
    state=STATES,
    stop_cause=CAUSES,
    automatic=bool,
    spared=bool,
)
pause = mapper(
    Pause,
    _LEADING["load_pauses"].returns,
    load("pauses.sql")["pauses"].returns,
    columns_of={"by": "set_by"},
    automatic=bool,
)

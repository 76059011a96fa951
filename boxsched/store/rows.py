"""From a driver's rows to values, and from values to the texts that rows hold."""

import functools
from collections.abc import Mapping, Sequence

import msgspec

from boxsched.model import Cancellation, Kind, Policy, ProjectId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.shards import Box, LoadedJob, LoadedWorkload, Organization, Project
from boxsched.protocol.workers import Pulse
from boxsched.states import JobState, Result, State, StopCause
from boxsched.store.blocks import Row
from boxsched.store.records import Job, Workload

# A look-up in a dict costs a tenth of an enum's call; None stands for "none yet".
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
_durations = msgspec.json.Decoder(tuple[float, ...])

# Builds of one project say the same again and again: their scripts are kept, so many, 8 MiB of text
# at most. A longer one is rare, and read anew.
_SCRIPTS_KEPT = 1_024
_SCRIPT_CHARACTERS = 4_096


def json_text(value: object) -> str:
    return _encode(value).decode()


_kept_commands = functools.lru_cache(_SCRIPTS_KEPT)(_commands.decode)
_kept_environment = functools.lru_cache(_SCRIPTS_KEPT)(_environment.decode)


def commands(text: str) -> tuple[str, ...]:
    short = len(text) <= _SCRIPT_CHARACTERS
    return _kept_commands(text) if short else _commands.decode(text)


def environment(text: str) -> Mapping[str, str]:
    short = len(text) <= _SCRIPT_CHARACTERS
    return _kept_environment(text) if short else _environment.decode(text)


def durations(text: str) -> tuple[float, ...]:
    return _durations.decode(text)


def organization(row: Row) -> Organization:
    id_, name, policy, max_boxes, priority_aging, shard = row
    return Organization(id_, name, Policy(policy), max_boxes, priority_aging, shard)


def project(row: Row) -> Project:
    id_, name, settings, max_boxes, version, secret = row
    return Project(ProjectId(id_), name, settings, max_boxes, version, secret)


def workload(row: Row, jobs: tuple[Job, ...] = ()) -> Workload:
    """A row of the view ``workload_shown``."""
    fields = [*row, jobs]
    fields[4] = KINDS[row[4]]
    fields[12] = CANCELLATIONS[row[12]]
    fields[13] = bool(row[13])
    fields[14] = STATES[row[14]]
    fields[15] = RESULTS[row[15]]
    return Workload(*fields)


def job(row: Row) -> Job:
    """A row of ``jobs_of``."""
    fields = list(row)
    fields[5] = commands(row[5])
    fields[6] = environment(row[6])
    fields[7] = JOB_STATES[row[7]]
    fields[8] = RESULTS[row[8]]
    fields[16] = bool(row[16])
    return Job(*fields)


def box(row: Row) -> Box:
    """A row of ``load_boxes`` or, with what people want to know, of ``boxes``."""
    fields = list(row)
    fields[4] = bool(row[4])
    return Box(*fields)


def pulse(row: Row) -> Pulse:
    """A row of ``pulses``."""
    worker, node, connected, *rest = row
    return Pulse(worker, node, bool(connected), *rest)


def assignment(row: Row) -> Assignment:
    """A row of ``assignments``."""
    fields = list(row)
    fields[5] = bool(row[5])
    fields[8] = commands(row[8])
    fields[9] = environment(row[9])
    fields[12] = KINDS[row[12]]
    fields[19] = bool(row[19])
    fields[21] = bool(row[21])
    return Assignment(*fields)


def loaded_job(row: Row) -> LoadedJob:
    """A row of ``load_jobs``."""
    _, name, box_type, timeout, expected, state, result, *rest = row
    return LoadedJob(name, box_type, timeout, expected, JOB_STATES[state], RESULTS[result], *rest)


def loaded_workload(row: Row, jobs: Sequence[LoadedJob]) -> LoadedWorkload:
    """A row of ``load_workloads``."""
    *fields, reason, promise, _ = row  # the last is how many jobs it has
    fields[3] = KINDS[row[3]]
    fields[8] = CANCELLATIONS[row[8]]
    fields[9] = bool(row[9])
    fields[10] = STATES[row[10]]
    fields[14] = CAUSES[row[14]]
    return LoadedWorkload._make([*fields, tuple(jobs), reason, promise])

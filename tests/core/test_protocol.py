"""Messages between nodes, workers and leaders: their exact form, their limits, their defaults.

Nodes and workers of two versions work side by side during an upgrade. So the bytes written here
never change: new fields come at the end and have defaults.
"""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import attrs
import msgspec
import pytest

from boxsched import protocol
from boxsched.model import (
    DEFAULT_BRANCH,
    DEFAULT_ORGANIZATION,
    MAX_STOP_GRACE_SECONDS,
    Kind,
    Policy,
    ProjectId,
)
from boxsched.protocol import inbox, reasons, timing, wire
from boxsched.protocol.artifacts import ArtifactFile
from boxsched.protocol.assignments import Assignment, CloneOptions, GitCredentials, JobSecret
from boxsched.protocol.batches import WorkloadChange
from boxsched.protocol.followed import followed
from boxsched.protocol.lock_keys import DEFAULT_LOCK_KEY, LockKeys, node_number
from boxsched.protocol.retries import Retries
from boxsched.protocol.shards import LOST_RETRIES, SHARD, LoadedWorkload, Organization, Project
from boxsched.protocol.timing import heartbeat_seconds
from boxsched.protocol.workers import Drain, NewWorker
from boxsched.states import Result

STARTED = inbox.JobStarted(1, 2, 3.0)
FINISHED = inbox.JobFinished(1, 2, 3.0, Result.PASSED, 0, None)
HELLO = wire.Hello(1, "i", "n", ("d",), "f", "b")


# --- Between a worker and a node ------------------------------------------------------------


FROM_WORKER: list[tuple[wire.FromWorker, str]] = [
    (
        HELLO,
        '{"type":"hello","version":1,"identity":"i","name":"n","box_types":["d"],'
        '"fingerprint":"f","boot":"b"}',
    ),
    (wire.Beat(1), '{"type":"beat","number":1}'),
    (
        wire.Said(2, (STARTED, FINISHED)),
        '{"type":"said","number":2,'
        '"reports":[["started",1,2,3.0],["finished",1,2,3.0,"passed",0,null]]}',
    ),
    (
        wire.Logged(3, (wire.Chunk(1, 2, 3, b"x"),)),
        '{"type":"logged","number":3,"chunks":[[1,2,3,"eA=="]]}',
    ),
    (
        wire.Found(4, 1, 2, "ab"),
        '{"type":"found","number":4,"job":1,"lease_token":2,"commit":"ab"}',
    ),
    (
        wire.Check(1, HELLO),
        '{"type":"check","version":1,"hello":{"type":"hello","version":1,"identity":"i","name":"n",'
        '"box_types":["d"],"fingerprint":"f","boot":"b"}}',
    ),
]
FROM_NODE: list[tuple[wire.FromNode, str]] = [
    (wire.Welcome(1, "c", 9.0), '{"type":"welcome","worker":1,"cluster":"c","lost_after":9.0}'),
    (wire.Refused("c", "m", True), '{"type":"refused","code":"c","message":"m","again":true}'),
    (
        wire.Level(
            (
                wire.Task(
                    *(1, 2, 3, 4, 5, True, 6.0, "n", ("c",), {"A": "b"}, 7, 8, Kind.BUILD, "p"),
                    *("b", None, None, None, None, False),
                ),
            )
        ),
        '{"type":"level","tasks":[[1,2,3,4,5,true,6.0,"n",["c"],{"A":"b"},7,8,"build","p","b",'
        "null,null,null,null,false]]}",
    ),
    (wire.Ack(4), '{"type":"ack","number":4}'),
    (wire.Leave(), '{"type":"leave"}'),
    (wire.WouldAccept(), '{"type":"would_accept","differs":[]}'),
]


@pytest.mark.parametrize(("message", "text"), FROM_WORKER)
def test_a_node_reads_the_messages_of_the_first_version(
    message: wire.FromWorker, text: str
) -> None:
    assert wire.from_worker.decode(text) == message
    assert wire.from_worker.decode(wire.encode(message)) == message


@pytest.mark.parametrize(("message", "text"), FROM_NODE)
def test_a_worker_reads_the_messages_of_the_first_version(
    message: wire.FromNode, text: str
) -> None:
    assert wire.from_node.decode(text) == message
    assert wire.from_node.decode(wire.encode(message)) == message


def test_fields_that_an_earlier_version_omits_change_nothing() -> None:
    """Each default is the behaviour before the field existed."""
    assert (HELLO.holds, HELLO.problem, HELLO.stop_grace) == ((), None, None)
    assert wire.Welcome(1, "c", 9.0).fixes_commits is False
    assert wire.Ack(1) == wire.Ack(1, (), None)
    assert (FINISHED.lost, FINISHED.seconds, FINISHED.not_begun) == (False, None, False)
    assert FINISHED.commit is None
    (task,) = FROM_NODE[2][0].tasks  # type: ignore[union-attr]
    assert (task.stop_reason, task.show_commands) == (None, True)
    assert (task.secrets, task.refusal, HELLO.takes_secrets) == ((), None, False)
    assert JobSecret("n", "v").file is False


def test_counts_of_a_cache_are_read_across_versions() -> None:
    """A worker counts more or less than its node knows."""
    earlier = wire.from_worker.decode('{"type":"beat","number":1,"cache":[1,2,3,4,5]}')
    assert isinstance(earlier, wire.Beat) and earlier.cache is not None
    assert earlier.cache == wire.CacheCounts(1, 2, 3, 4, 5, 0, 0)
    later = wire.from_worker.decode('{"type":"beat","number":1,"cache":[1,2,3,4,5,6,7,8,9]}')
    assert isinstance(later, wire.Beat)
    assert later.cache == wire.CacheCounts(1, 2, 3, 4, 5, 6, 7)


# The meaning of each omitted field, except None and empty values.
DEFAULTS: dict[type, dict[str, object]] = {
    JobSecret: {"file": False},
    CloneOptions: {"submodules": False},
    GitCredentials: {"for_submodules": True},
    Assignment: {
        "started": False, "show_commands": True, "has_secrets": False, "has_credentials": False,
        "from_fork": False, "ssh_forwarding": False, "is_given_artifacts": False,
    },
    WorkloadChange: {"spared": False},
    LoadedWorkload: {"automatic": False, "spared": False},
    Organization: {"shard": SHARD, "lost_retries": LOST_RETRIES},
    Project: {"organization": DEFAULT_ORGANIZATION},
    NewWorker: {"organization": 1},
    inbox.Submit: {"automatic": False, "queue": "all"},
    inbox.ProjectSet: {"deleted": False, "notifies": False},
    inbox.BoxesSet: {"connection": 0},
    inbox.JobFinished: {"lost": False, "not_begun": False},
    wire.Hello: {
        "takes_secrets": False, "ends_when_drained": False, "keeps_ghosts": False,
        "keeps_artifacts": False,
        "knows_images": False,
    },
    Retries: {"lost": 0, "any": 0},
    ArtifactFile: {"executable": False},
    wire.CacheCounts: dict.fromkeys(wire.CacheCounts.__struct_fields__, 0),
    Drain: {"done": False, "automatic": False},
    wire.Welcome: {"fixes_commits": False, "opens_sessions": False},
    wire.Task: {"show_commands": True, "ssh_forwarding": False, "is_given_artifacts": False},
}  # fmt: skip


def test_an_omitted_field_means_the_ordinary_case() -> None:
    """Every message and value of this package with such a field is in the table."""
    found = {each: given for each in _values() if (given := _defaults(each))}
    assert found == DEFAULTS


def _values() -> Iterator[type]:
    for module in pkgutil.iter_modules(protocol.__path__, "boxsched.protocol."):
        for name, each in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(each) and each.__module__ == module.name and name[0] != "_":
                yield each


def _defaults(of: type) -> dict[str, object]:
    if attrs.has(of):
        all_ = {field.name: field.default for field in attrs.fields(of)}
    elif issubclass(of, msgspec.Struct):
        all_ = {field.name: field.default for field in msgspec.structs.fields(of)}
    else:
        all_ = getattr(of, "_field_defaults", {})
    return {
        name: value for name, value in all_.items() if isinstance(value, int | str) and value != ""
    }


def test_both_sides_compare_this_version() -> None:
    assert wire.PATH == "/api/v1/worker"


def test_both_sides_use_these_sizes() -> None:
    """A larger message ends the connection, so neither side may lower them alone."""
    assert wire.MAX_MESSAGE_BYTES == 8 * 1024 * 1024
    assert wire.MAX_WORKER_MESSAGE_BYTES == 1024 * 1024


def test_the_first_shard_and_organization_are_those_of_every_database() -> None:
    assert SHARD == 1
    assert Organization(1, "default", Policy.BACKFILL, None, None).shard == SHARD
    assert NewWorker("i", "w", "here", "n", ("d",)).organization == 1


def test_no_text_of_a_value_shows_a_secret() -> None:
    """Values get into logs with the errors that name them."""
    secret = JobSecret("TOKEN", "hunter2")
    project = Project(ProjectId(1), "web", "{}", None, 1, webhook_secret="hunter2")
    fields = (1, 1, 1, 1, 1, False, 1.0, "j", (), {}, 1, 1, Kind.BUILD, "web", *[None] * 5)
    assignment = Assignment(*fields, secrets=(secret,))  # type: ignore[arg-type]
    for value in (secret, project, assignment):
        assert "hunter2" not in repr(value)
    assert (assignment.started, assignment.has_secrets, assignment.show_commands) == (
        False, False, True,
    )  # fmt: skip


def test_a_task_has_the_fields_of_an_assignment_except_those_of_the_node() -> None:
    fields = {each.name for each in attrs.fields(Assignment)}
    assert fields - {*wire.Task.__struct_fields__} == {
        "owner", "has_secrets", "has_credentials", "from_fork", "cache", "build",
    }  # fmt: skip
    assert {*wire.Task.__struct_fields__} <= fields


ACCEPTED: list[dict[str, Any]] = [
    {"name": "n" * 255},
    {"identity": "ü-1"},
    {"box_types": ("d",) * 10_000},
    {"problem": "p"},
    {"problem": "p" * 200},
    {"stop_grace": 0.0},
    {"stop_grace": float(MAX_STOP_GRACE_SECONDS)},
]
REJECTED: list[dict[str, Any]] = [
    {"name": "n" * 256},
    {"name": ""},
    {"name": "a\n"},
    {"identity": "a\x00"},
    {"name": "a\u202eb"},
    {"name": "a\U000e0041"},
    {"box_types": ()},
    {"box_types": ("d",) * 10_001},
    {"box_types": ("",)},
    {"problem": "p" * 201},
    {"problem": ""},
    {"problem": "two\nlines"},
    {"stop_grace": -0.1},
    {"stop_grace": MAX_STOP_GRACE_SECONDS + 1.0},
]


def hello(changes: dict[str, Any]) -> bytes:
    return wire.encode(msgspec.structs.replace(HELLO, **changes))


@pytest.mark.parametrize("changes", ACCEPTED, ids=range(len(ACCEPTED)))
def test_a_hello_within_the_limits(changes: dict[str, Any]) -> None:
    read = wire.from_worker.decode(hello(changes))
    assert read == msgspec.structs.replace(HELLO, **changes)


@pytest.mark.parametrize("changes", REJECTED, ids=range(len(REJECTED)))
def test_a_hello_beyond_a_limit_names_the_field(changes: dict[str, Any]) -> None:
    (field,) = changes
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{field}"):
        wire.from_worker.decode(hello(changes))


@pytest.mark.parametrize(
    ("full", "field"),
    [
        (wire.Said(1, (STARTED,) * 20_000), "reports"),
        (wire.Logged(1, (wire.Chunk(1, 2, 3, b""),) * 64), "chunks"),
    ],
)
def test_one_message_has_a_limited_number_of_entries(
    full: wire.Said | wire.Logged, field: str
) -> None:
    assert wire.from_worker.decode(wire.encode(full)) == full
    entries = getattr(full, field)
    more = msgspec.structs.replace(full, **{field: (*entries, entries[0])})
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{field}"):
        wire.from_worker.decode(wire.encode(more))


# --- Lock keys, reasons, timing -------------------------------------------------------------


def test_the_keys_of_locks_never_change() -> None:
    """Nodes of two versions exclude one another from leading a shard only with equal keys."""
    assert LockKeys.of(DEFAULT_LOCK_KEY, "4f9c") == LockKeys(
        shards=1115738535,
        nodes=222912516,
        clusters=1606444209,
        cluster=580628425,
        lock_keys=768720879,
        lock_key=463583738,
    )
    assert node_number("node-1") == 1699850684


def test_jobs_that_wait_for_another_attempt_have_these_reasons() -> None:
    not_begun = reasons.not_begun("w", "disk full")
    assert not_begun == "worker w could not begin it: disk full; waits for another try"
    assert reasons.without_wait(not_begun) == "worker w could not begin it: disk full"
    assert reasons.without_wait(None) == ""
    of_each = {
        reason: (reasons.waits_again(reason), reasons.is_not_begun(reason))
        for reason in (not_begun, reasons.ENDED_LOST, reasons.AGAIN, reasons.LOST, None)
    }
    assert of_each == {
        not_begun: (True, True),
        reasons.ENDED_LOST: (True, False),
        reasons.AGAIN: (True, False),
        reasons.LOST: (False, False),
        None: (False, False),
    }


def test_nodes_of_two_versions_agree_on_these_times() -> None:
    """docs/faults.md promises them, and a node of an earlier version uses them."""
    assert timing.HEARTBEAT_SECONDS == 5.0
    assert timing.UNKNOWN_AFTER_SECONDS == 15.0
    assert timing.LOST_AFTER_SECONDS == 120.0
    assert timing.GIVEN_AGAIN_SECONDS == 10.0
    assert timing.LEVEL_SECONDS == 10.0


@pytest.mark.parametrize(("lost_after", "seconds"), [(120.0, 5.0), (20.0, 5.0), (2.0, 0.5)])
def test_four_heartbeats_fit_into_the_time_after_which_a_worker_is_lost(
    lost_after: float, seconds: float
) -> None:
    assert heartbeat_seconds(lost_after) == seconds


# --- Settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"servers": {"a": {}, "b": {"branch": "main"}}}, {}),
        ({"servers": {"a": {"strategy": "manual", "branch": "main"}}}, {}),
        ({"servers": {"a": {"strategy": "automatic", "branch": "next"}}}, {"next": ("a",)}),
        ({"servers": {"a": {"strategy": "automatic"}}}, {DEFAULT_BRANCH: ("a",)}),
        (
            {"default_branch": "trunk", "servers": {"a": {"strategy": "automatic"}}},
            {"trunk": ("a",)},
        ),
        (
            {
                "default_branch": "trunk",
                "servers": {
                    "b": {"strategy": "automatic"},
                    "c": {"strategy": "automatic", "branch": "next"},
                    "a": {"strategy": "automatic", "branch": "trunk"},
                },
            },
            {"trunk": ("b", "a"), "next": ("c",)},
        ),
    ],
)
def test_servers_follow_branches_by_their_patterns(
    settings: dict[str, Any], expected: dict[str, tuple[str, ...]]
) -> None:
    assert followed(json.dumps(settings)) == expected

"""Assignments on the wire: the worker reads every field as the node sent it."""

import attrs
import msgspec
import pytest

from boxsched.gateway.levels import level_text
from boxsched.model import Kind
from boxsched.protocol import wire
from boxsched.protocol.assignments import Assignment, CloneOptions, JobSecret
from boxsched.worker.remote.worker import assignment_of


def value_of(field: "attrs.Attribute[object]", number: int) -> object:
    """Another value for each field, of the field's type."""
    given = {
        "kind": Kind.DEPLOY,
        "commands": ("make",),
        "environment": {"A": "b"},
        "secrets": (JobSecret("TOKEN", "s3cr3t", False),),
        "clone": CloneOptions(depth=5, submodules=True),
        "credentials": None,
        "artifacts": ("dist/**",),
        "kept_cache": None,
    }
    if field.name in given:
        return given[field.name]
    if "bool" in str(field.type):
        return number % 2 == 0
    if "float" in str(field.type):
        return float(number)
    if any(one in str(field.type) for one in ("int", "Id")):
        return number
    return f"text {number}"


def an_assignment() -> Assignment:
    fields = attrs.fields(Assignment)
    return Assignment(**{one.name: value_of(one, n) for n, one in enumerate(fields, 1)})  # type: ignore[arg-type]


def test_every_field_that_is_sent_arrives_under_its_name() -> None:
    sent = an_assignment()
    (task,) = msgspec.json.decode(level_text([sent]), type=wire.Level).tasks
    taken = assignment_of(task)
    for name in wire.Task.__struct_fields__:
        assert getattr(taken, name) == getattr(sent, name), name
    assert taken.secrets == (JobSecret("TOKEN", "s3cr3t", False),)


class OlderTask(msgspec.Struct, frozen=True, array_like=True):
    """The start of a task, as a worker of an earlier version knows it."""

    job: int
    attempt: int


class OlderLevel(msgspec.Struct, frozen=True, tag="level"):
    tasks: tuple[OlderTask, ...]


def test_a_worker_of_an_earlier_version_reads_what_it_knows() -> None:
    sent = an_assignment()
    (task,) = msgspec.json.decode(level_text([sent]), type=OlderLevel).tasks
    assert (task.job, task.attempt) == (sent.job, sent.attempt)


def test_fields_that_an_earlier_node_does_not_send_have_their_former_meaning() -> None:
    fields = msgspec.json.decode(level_text([an_assignment()]))["tasks"][0]
    earlier = fields[: wire.Task.__struct_fields__.index("stop_reason")]
    text = msgspec.json.encode({"type": "level", "tasks": [earlier]})
    (task,) = msgspec.json.decode(text, type=wire.Level).tasks
    assert assignment_of(task).clone is None


@pytest.mark.parametrize("name", ["owner", "has_secrets"])
def test_fields_for_the_node_only_are_not_sent(name: str) -> None:
    assert name not in wire.Task.__struct_fields__

"""The JSON Schema of job files agrees with ``boxsched lint``."""

import re

import jsonschema
import pytest

from boxsched.job_files import reading, schema
from boxsched.job_files.reading import WrongFile
from tests.conftest import EXAMPLES, PROJECT

VALIDATOR = jsonschema.Draft202012Validator(schema.schema())
PAGES = (PROJECT / "README.md", PROJECT / "docs" / "job-files.md")


def in_pages() -> list[str]:
    """The job files that the documentation shows."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```ya?ml\n(.*?)```", page.read_text(), re.S)
    ]
    return [block for block in blocks if re.search("^jobs:", block, re.M)]


def schema_takes(text: str) -> bool:
    return bool(VALIDATOR.is_valid(reading.value(text.encode())))


def lint_takes(text: str) -> bool:
    try:
        reading.jobs_of(text.encode())
    except WrongFile:
        return False
    return True


def test_it_is_a_valid_schema_and_closed() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    definitions = schema.schema()["$defs"]
    assert {one["additionalProperties"] for one in definitions.values()} == {False}


def test_the_examples_are_accepted() -> None:
    texts = [(EXAMPLES / "boxsched.yml").read_text(), *in_pages()]
    assert len(texts) >= 3
    for text in texts:
        assert lint_takes(text), text
        VALIDATOR.validate(reading.value(text.encode()))


def one(fields: str) -> str:
    return f"jobs: [{{{fields}}}]"


GOOD = [
    "jobs: [{name: a, commands: [x]}]",
    '{"jobs": [{"name": "a", "commands": ["x"]}], "version": 1}',
    one("name: a, commands: [x], timeout_seconds: 60"),
    one("name: a, commands: [x], timeout_seconds: 0.5"),
    one("name: a, commands: [x], timeout_seconds: null"),
    one("name: a, commands: [x], parallelism: 2"),
    one("name: a, commands: [x], parallelism: 100"),
    one("name: a, commands: [x], show_commands: false"),
    one("name: a, commands: [x], box_type: mac"),
    one("name: a, commands: [x], environment: {}"),
    one("name: a, commands: [x], environment: {A_1: b, c: ''}"),
    one("name: a, commands: ['']"),
    one("name: on, commands: [yes]"),
    one("name: 2026-01-01, commands: [0x10, 1:30]"),
    "jobs: [&a {name: a, commands: &c [x]}, {name: b, commands: *c}]",
    one(f"name: {'a' * 255}, commands: [x]"),
]
BAD = [
    "[]",
    "jobs",
    "{}",
    "jobs: []",
    "jobs: null",
    "jobs: {}",
    "jobs: [x]",
    "jobs: [{name: a}]",
    "jobs: [{commands: [x]}]",
    "jobs: [{name: a, commands: [x]}]\nversion: 2",
    "jobs: [{name: a, commands: [x]}]\nversion: '1'",
    "jobs: [{name: a, commands: [x]}]\nother: 1",
    one("name: a, commands: []"),
    one("name: a, commands: x"),
    one("name: a, commands: [1]"),
    one("name: a, commands: [null]"),
    one("name: 1, commands: [x]"),
    one("name: '', commands: [x]"),
    one('name: "a\\nb", commands: [x]'),
    one('name: "a\\n", commands: [x]'),
    one('name: a, commands: ["\\0"]'),
    one(f"name: {'a' * 256}, commands: [x]"),
    one("name: a, commands: [x], timeout_seconds: 0"),
    one("name: a, commands: [x], timeout_seconds: -1"),
    one("name: a, commands: [x], timeout_seconds: '60'"),
    one("name: a, commands: [x], timeout_seconds: 2592001"),
    one("name: a, commands: [x], timeout_seconds: long"),
    one("name: a, commands: [x], timeout_seconds: true"),
    one("name: a, commands: [x], parallelism: 1"),
    one("name: a, commands: [x], parallelism: 101"),
    one("name: a, commands: [x], parallelism: 2.5"),
    one("name: a, commands: [x], show_commands: yes"),
    one("name: a, commands: [x], show_commands: null"),
    one("name: a, commands: [x], box_type: ''"),
    one("name: a, commands: [x], box_type: 'a b'"),
    one("name: a, commands: [x], environment: {BOXSCHED_A: b}"),
    one("name: a, commands: [x], environment: {1: b}"),
    one("name: a, commands: [x], environment: {a-b: b}"),
    one("name: a, commands: [x], environment: {a: 1}"),
    one("name: a, commands: [x], environment: [a]"),
    one("name: a, commands: [x], comands: [y]"),
    "jobs: [" + "{name: a, commands: [x]}," * 1_001 + "]",
]
# What the schema cannot express.
ONLY_LINT = [
    "jobs: [{name: a, commands: [x]}, {name: a, commands: [x]}]",
    "jobs: [{name: a, commands: [x], parallelism: 2}, {name: a 1/2, commands: [x]}]",
    one(f"name: {'a' * 254}, commands: [x], parallelism: 2"),
]


@pytest.mark.parametrize("text", GOOD)
def test_both_accept(text: str) -> None:
    assert (lint_takes(text), schema_takes(text)) == (True, True)


@pytest.mark.parametrize("text", BAD)
def test_both_refuse(text: str) -> None:
    assert (lint_takes(text), schema_takes(text)) == (False, False)


@pytest.mark.parametrize("text", ONLY_LINT)
def test_lint_refuses_what_the_schema_cannot_express(text: str) -> None:
    assert (lint_takes(text), schema_takes(text)) == (False, True)

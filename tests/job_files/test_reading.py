"""The jobs file: which values are texts and which numbers, its limits, and the positions of
errors."""

import pytest

from boxsched.job_files.reading import MAX_BYTES, MAX_DEPTH, MAX_NODES, WrongFile, jobs_of
from boxsched.store.records import JobSpec

SMALL = "jobs: [{name: a, commands: [x]}]\n"


def job_with(more: str) -> str:
    return f"jobs: [{{name: a, commands: [x], {more}}}]\n"


def mistake(text: str | bytes) -> str:
    with pytest.raises(WrongFile) as wrong:
        jobs_of(text.encode() if isinstance(text, str) else text)
    return str(wrong.value)


def test_a_file_may_be_yaml_or_json_with_or_without_a_byte_order_mark() -> None:
    expected = (JobSpec("a", "default", 3600.0, ("x",), {}),)
    as_json = '{"jobs": [{"name": "a", "commands": ["x"]}], "version": 1}'
    for text in (SMALL, f"{SMALL}version: 1\n", as_json, "\ufeff" + SMALL, "--- \n" + SMALL):
        assert jobs_of(text.encode()) == expected, text


def test_a_value_can_be_repeated_by_its_anchor() -> None:
    text = "jobs: [{name: a, commands: &c [x, y]}, {name: b, commands: *c}]"
    assert [one.commands for one in jobs_of(text.encode())] == [("x", "y"), ("x", "y")]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("60", 60.0), ("+60", 60.0), (".5", 0.5), ("1.5", 1.5), ("1.5e+2", 150.0), ("~", 3600.0)],
)
def test_numbers_have_the_form_of_json(written: str, seconds: float) -> None:
    (made,) = jobs_of(job_with(f"timeout_seconds: {written}").encode())
    assert made.timeout_seconds == seconds


@pytest.mark.parametrize(
    "written",
    ["0x10", "1:30", "007", "1_000", ".inf", ".nan", "2026-01-01", "yes", "'60'", "1" * 19],
)
def test_values_that_only_yaml_reads_as_numbers_or_dates_are_strings(written: str) -> None:
    (made,) = jobs_of(job_with(f"environment: {{V: {written}}}").encode())
    assert made.environment == {"V": written.strip("'")}
    said = mistake(job_with(f"timeout_seconds: {written}"))
    column = job_with("timeout_seconds: ").index(": }") + 3
    assert said.startswith(f"line 1, column {column}: jobs[0].timeout_seconds: must be a number")
    assert said.endswith("not a string")


def test_a_whole_number_of_18_digits_is_one() -> None:
    assert "must be at most" in mistake(job_with(f"timeout_seconds: {'1' * 18}"))


@pytest.mark.parametrize(("written", "shown"), [("true", True), ("False", False), ("TRUE", True)])
def test_only_true_and_false_are_booleans(written: str, shown: bool) -> None:
    (made,) = jobs_of(job_with(f"show_commands: {written}").encode())
    assert made.show_commands is shown
    for other in ("yes", "no", "on", "off"):
        assert mistake(job_with(f"show_commands: {other}")).endswith("not a string")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "line 1, column 1: must be an object, not a list"),
        (f"{SMALL}version: 2", "line 2, column 10: version: must be at most 1"),
        (f"{SMALL}version: 0", "line 2, column 10: version: must be at least 1"),
        ("job: []", "line 1, column 1: job: unknown field; did you mean jobs?"),
        (
            "jobs:\n- {name: a, commands: [x]}\n- {name: a, commands: [x]}",
            "line 3, column 10: jobs[1].name: an earlier job has the same name",
        ),
        ("1: 2", "line 1, column 1: 1: unknown field; known: jobs, version"),
        ("? [a]\n: b", "line 1, column 3: a key must be a string"),
        ("jobs: [{<<: {name: a}}]", "line 1, column 9: a key must be a string"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: 'a' occurs twice"),
        ("a: !!binary eA==", "line 1, column 4: the tag 'tag:yaml.org,2002:binary' is not allowed"),
        (f"a: !{'x' * 99} b", f"line 1, column 4: the tag '!{'x' * 59}' is not allowed"),
        ("a: [\n", "line 2, column 1: "),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("a: *b", "line 1, column 4: found undefined alias 'b'"),
        ("a: &a [*a]", f"more than {MAX_NODES} values, with all aliases expanded"),
        (f"{SMALL}---\n{SMALL}", "line 2, column 1: "),
        ("# nothing", "line 1, column 1: the file is empty; it needs a list of jobs"),
        ("\x00", "line 1, column 1: the character '\\x00' is not allowed"),
        (b"jobs:\n\n- \xff", "line 3: the file is not UTF-8"),
    ],
)
def test_an_error_is_named_with_its_position(text: str | bytes, said: str) -> None:
    assert mistake(text).startswith(said)


def test_a_missing_field_is_named_at_the_value_that_should_have_it() -> None:
    assert mistake("jobs:\n  - {name: a}").startswith("line 2, column 5: jobs[0].commands: ")
    assert mistake("version: 1").startswith("line 1, column 1: jobs: ")


def test_a_file_has_a_maximum_size() -> None:
    assert jobs_of(SMALL.ljust(MAX_BYTES).encode())
    assert mistake(SMALL.ljust(MAX_BYTES + 1)) == f"it has more than {MAX_BYTES} bytes"


def repeated(what: str, values: int, count: int) -> str:
    """A list of this many copies of itself: ``what``, which has ``values`` values, repeatedly."""
    times, rest = divmod(count - 1, values)
    return f"[&b {what}, {'*b,' * (times - 1)}{'x,' * rest}]"


@pytest.mark.parametrize(
    ("what", "values"), [("x", 1), ("[1, 2, 3]", 4), ("{x: y}", 3), ("{x: [y, {}]}", 5)]
)
def test_a_file_has_a_limit_of_values_with_every_alias_counted_in_full(
    what: str, values: int
) -> None:
    most = repeated(what, values, MAX_NODES)
    assert mistake(most) == "line 1, column 1: must be an object, not a list"
    too_many = f"more than {MAX_NODES} values, with all aliases expanded"
    assert mistake(repeated(what, values, MAX_NODES + 1)) == too_many


def test_a_file_has_a_limit_of_depth() -> None:
    def deep(levels: int) -> str:
        return "[" * levels + "]" * levels

    assert mistake(deep(MAX_DEPTH)) == "line 1, column 1: must be an object, not a list"
    said = f"line 1, column {MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels"
    assert mistake(deep(MAX_DEPTH + 1)) == said
    assert mistake(f"[{'[],' * MAX_DEPTH}]") == mistake("[]"), "what was closed does not count"

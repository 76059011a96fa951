"""Log lines: no value in a record can add or change a line."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.loglines import FORMAT, MAX_LINE_CHARACTERS, Formatter, escaped

FORGED = "x\n2026-01-01 00:00:00,000 ERROR boxsched: forged"
HOSTILE = [
    FORGED,
    "\r\x1b[2K\x1b]0;title\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066a\u2069",
    "a\u2028b\u2029c\x85d\x0b\x0c",
    "\ud800",
    "\0",
]


def logged(say) -> list[str]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Formatter(FORMAT))
    log = logging.Logger("boxsched.test")
    log.addHandler(handler)
    say(log)
    text = out.getvalue()
    assert text.endswith("\n")
    assert text.replace("\n", "").isprintable()
    return text[:-1].split("\n")


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_stays_in_its_line(value):
    [line] = logged(lambda log: log.warning("the worker %s says %r", value, value))
    assert "the worker " in line


@pytest.mark.parametrize("value", HOSTILE)
def test_the_message_of_an_exception_is_one_line(value):
    def say(log):
        try:
            try:
                raise KeyError(value)
            except KeyError:
                error = ValueError(value)
                error.add_note(value)
                raise error from None
        except ValueError:
            log.exception("it broke: %s", value)

    lines = logged(say)
    assert lines[1] == "Traceback (most recent call last):"
    assert [line for line in lines if line.startswith("2026-01-01")] == []
    assert lines[-2].startswith("ValueError: ")
    assert len(lines) == 2 + 2 + 2  # the record, the head; file and source; message and note


def test_causes_contexts_and_groups_are_logged():
    def say(log):
        try:
            try:
                raise OSError(FORGED)
            except OSError as cause:
                raise ExceptionGroup(FORGED, [ValueError(FORGED), KeyError("k")]) from cause
        except ExceptionGroup:
            log.exception("it broke")

    lines = logged(say)
    kinds = ["OSError", "ExceptionGroup", "ValueError", "KeyError"]
    assert [kind for line in lines if (kind := line.partition(":")[0]) in kinds] == kinds
    assert [line for line in lines if line.startswith("2026-01-01")] == []


def test_an_exception_without_a_message_is_logged():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    lines = logged(lambda log: log.error("it broke", exc_info=Broken()))
    assert "its message cannot be made: RuntimeError" in lines[-1]


@given(st.text())
def test_output_is_printable(text):
    assert escaped(text).isprintable()


def test_a_line_has_a_maximum_length():
    assert len(escaped("x" * 1_000_000)) < MAX_LINE_CHARACTERS + 100

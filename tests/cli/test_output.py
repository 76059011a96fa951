"""How answers look to a person, and to a program."""

import io
import json
from datetime import timedelta

import pytest

from boxsched.cli.following import Printer
from boxsched.cli.output import duration, print_json, print_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0.0 s"),
        (0.42, "0.4 s"),
        (7, "7 s"),
        (60, "1 m"),
        (200, "3 m 20 s"),
        (7_500, "2 h 5 m"),
        (86_400, "1 d"),
        (4 * 86_400 + 3_700, "4 d 1 h"),
    ],
)
def test_lengths_of_time(seconds, text):
    assert duration(timedelta(seconds=seconds)) == text


def test_a_table_elsewhere_than_on_a_terminal_is_plain_columns(capsys):
    print_table(("id", "name"), [("w1", "short"), ("w100", "with\x1b[2J tricks\n")])
    assert capsys.readouterr().out == "ID    NAME\nw1    short\nw100  with tricks\n"


def test_json_moves_no_cursor(capsys):
    print_json({"branch": "\x1b[2J\u202e\x9b"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"branch": "\x1b[2J\u202e\x9b"}


def shown(chunks, prefix=""):
    out = io.StringIO()
    printer = Printer(out, prefix)
    for chunk in chunks:
        printer.feed(chunk)
    printer.end()
    return out.getvalue()


def test_a_log_of_its_own_goes_through_as_it_comes():
    assert shown([b"one\ntw", b"o\n"]) == "one\ntwo\n"


def test_a_characters_bytes_may_come_apart():
    assert shown(["ü".encode()[:1], "ü".encode()[1:]]) == "ü"
    assert shown([b"\xff\n"]) == "\ufffd\n"


def test_logs_beside_each_other_have_a_prefix_on_each_whole_line():
    assert shown([b"on", b"e\ntwo\nlast"], "unit | ") == "unit | one\nunit | two\nunit | last\n"


def test_a_line_without_an_end_is_shown_in_pieces():
    assert shown([b"x" * 100_000], "unit | ").startswith("unit | xxx")

"""Text from outside on a terminal: no part of it may control the terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.cli.clean import Cleaner, plain

SGR = re.compile(r"\x1b\[[0-9;:]*m")
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# Much of the random text must be the start, middle and end of sequences.
PIECES = st.sampled_from(
    [
        "\x1b", "[", "]", "P", "X", "^", "_", "\\", "\x07", "\x9b", "\x9d", "\x90", "\x9c", "\x18",
        "31", ";", ":", "?", ">", " ", "m", "H", "J", "0;title", "52;c;QUJD", "8;;http://x", "\r",
        "\n", "\r\n", "\t", "\u202e", "\u2066", "\x00", "\x7f", "\x85", "a", "ü", "\U0001f600",
        "\ud800", "\x1b[31m", "\x1b[2J", "\x1b]0;t\x07", "\x1b[0m",
    ]
)  # fmt: skip
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=30).map("".join)


def cleaned(text, *, colour=False):
    cleaner = Cleaner(colour=colour)
    return cleaner.feed(text) + cleaner.end()


@given(TEXTS)
def test_without_colour_no_control_sequence_is_left(text):
    assert not FORBIDDEN.search(cleaned(text))


@given(TEXTS)
def test_with_colour_the_only_escape_sequences_are_sgr(text):
    shown = cleaned(text, colour=True)
    assert not FORBIDDEN.search(SGR.sub("", shown))


@given(TEXTS)
def test_colour_never_continues_after_the_end(text):
    shown = cleaned(text, colour=True)
    assert "\x1b" not in shown or shown.endswith("\x1b[0m")


@given(st.lists(TEXTS, max_size=8), st.booleans())
def test_splitting_a_text_anywhere_makes_no_difference(parts, colour):
    cleaner = Cleaner(colour=colour)
    shown = "".join(cleaner.feed(part) for part in parts) + cleaner.end()
    assert shown == cleaned("".join(parts), colour=colour)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_plain_text_stays_unchanged(text):
    assert cleaned(text) == text
    assert plain(text) == text


@given(TEXTS)
def test_a_name_is_one_line(text):
    assert not re.search("[\n\r\t\u2028\u2029]", plain(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]52;c;QUJD\x1b\\after", "after"),
        ("\x1b]8;;https://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0;2;0\x1b\\after", "after"),
        ("\x9b2Jafter", "after"),
        ("\x9d0;t\x9cafter", "after"),
        ("safe\x1b[2J\x1b[Hgone", "safegone"),
        ("10 %\r20 %\r\ndone", "10 %\n20 %\ndone"),
        ("an unclosed \x1b]0;title\nmust not swallow", "an unclosed \nmust not swallow"),
        ("\x1b(Bcharset", "charset"),
        ("\x1bcreset", "reset"),
        ("nothing\x08\x08\x08", "nothing"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("half \x1b[3", "half "),
    ],
)
def test_sequences_and_tricks_are_removed(text, shown):
    assert cleaned(text) == shown


def test_colour_is_kept_if_it_is_wanted():
    assert cleaned("\x1b[1;31mred", colour=True) == "\x1b[1;31mred\x1b[0m"
    assert cleaned("\x1b[?25lhidden", colour=True) == "hidden"


def test_an_unterminated_string_is_not_buffered_for_ever():
    cleaner = Cleaner(colour=False)
    shown = cleaner.feed("\x1b]0;" + "x" * 10_000)
    assert len(shown) > 9_000

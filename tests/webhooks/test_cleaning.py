"""Texts from outside: refused names, shortened texts, skip tags, links and times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.model import MAX_MESSAGE_CHARACTERS, MAX_NAME_CHARACTERS
from boxsched.webhooks import cleaning
from boxsched.webhooks.outcomes import Head, deleted_branch, pushed, pushed_branch
from boxsched.webhooks.skipping import SEARCHED_CHARACTERS, skip_tag
from tests.webhooks.event_lines import event_line
from tests.webhooks.sample_payloads import A

# --- Names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["main", "feature/Ünïcode", "a.b", "dependabot/npm_and_yarn/@types/node-1.2", "x" * 255,
             "$(id)", "a;rm", "<script>", "pull-request-7", "#1"]
)  # fmt: skip
def test_a_name_that_is_valid_in_git_is_built(name):
    assert pushed_branch(name, Head(commit=A)).branch == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "has no name"),
        ("x" * 256, "more than 255 characters"),
        ("a\nb", "control characters"),
        ("a\x00b", "control characters"),
        ("a\x85b", "control characters"),
        ("--upload-pack=x", "begins with '-'"),
        ("a b", "cannot be used"),
        ("a..b", "cannot be used"),
        ("x.lock", "cannot be used"),
        ("HEAD", "cannot be used"),
        ("a\\b", "cannot be used"),
    ],
)
def test_a_name_that_boxsched_does_not_accept_is_ignored_with_the_reason(name, reason):
    for event in (pushed_branch(name, Head(commit=A)), deleted_branch(name)):
        assert event_line(event).startswith("ignored: the branch")
        assert reason in event_line(event)
    if name != "HEAD":
        assert event_line(pushed(f"refs/tags/{name}", Head(commit=A))).startswith(
            "ignored: the tag"
        )


def test_a_reason_contains_a_short_and_clean_part_of_the_name():
    line = event_line(pushed("refs/x\x1b[31m" + "y" * 10_000, Head(commit=A)))
    assert len(line) < 150
    assert "\x1b" not in line


# --- Texts ----------------------------------------------------------------------------------


def test_a_message_keeps_its_lines_and_loses_hidden_characters():
    assert cleaning.message("a\r\nb\rc\u2028d\n") == "a\nb\nc\nd"
    assert cleaning.message("\x1b[31mred\x00\x07\x9b\tx") == "[31mred\tx"
    assert cleaning.message("abc\u202egpj.exe\u2066") == "abcgpj.exe"
    assert cleaning.message("  \n\t\x00 ") is None
    assert cleaning.message(None) is None


def test_a_long_message_is_cut():
    text = cleaning.message("x" * 25_000_000)
    assert len(text) == MAX_MESSAGE_CHARACTERS
    assert text.endswith("x…")
    assert cleaning.message("y" * MAX_MESSAGE_CHARACTERS) == "y" * MAX_MESSAGE_CHARACTERS


def test_only_the_start_of_a_text_is_searched_for_visible_characters():
    """A text of 25 million blanks costs no more than one that is only a little too long."""
    for cleaned, most in (
        (lambda text: cleaning.line(text, 10), 40),
        (cleaning.line, 4 * MAX_NAME_CHARACTERS),
        (cleaning.author, 4 * MAX_NAME_CHARACTERS),
        (cleaning.message, 2 * MAX_MESSAGE_CHARACTERS),
    ):
        assert cleaned("\x00" * (most - 1) + "x") == "x"
        assert not cleaned("\x00" * most + "x")


@pytest.mark.parametrize(
    ("names", "author"),
    [
        (("Ann",), "Ann"),
        ((None, "", " \t", "Ann"), "Ann"),
        (("Ann B. <ann@example.com>",), "Ann B."),
        (("ann@example.com", "ann"), "ann"),
        (("ann@example.com",), None),
        (("Ann (ann@example.com)",), None),
        (("<ann@example.com>",), None),
        (("@ann",), "@ann"),
        (("A\nnn\x00 \x1b[1m",), "A nn [1m"),
        (("x" * 300,), "x" * 254 + "…"),
        ((), None),
    ],
)
def test_an_author_is_a_name_and_never_an_address(names, author):
    assert cleaning.author(*names) == author


@given(st.text(st.characters(codec=None), max_size=600))
def test_any_text_is_made_short_printable_and_encodable(text):
    for cleaned, limit in (
        (cleaning.line(text), MAX_NAME_CHARACTERS),
        (cleaning.author(text) or "", MAX_NAME_CHARACTERS),
    ):
        assert len(cleaned) <= limit
        cleaned.encode()
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in cleaned)


# --- Skip tags ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "tag"),
    [
        ("x [skip ci]", "[skip ci]"),
        ("[ci skip]", "[ci skip]"),
        ("[No CI] x", "[No CI]"),
        ("[skip boxsched]", "[skip boxsched]"),
        ("[actions skip]", "[actions skip]"),
        ("title\n\nbody\n[skip ci]\n", "[skip ci]"),
        ("title\n\nbody\n\n\nskip-checks: true\n", "skip-checks: true"),
        ("title\r\n\r\nSigned-off-by: x\r\nskip-checks:true", "skip-checks:true"),
        ("skip-checks: true", None),
        ("title\n\nskip-checks: true\n\nmore", None),
        ("title\n\nskip-checks: false", None),
        ("title\n\nplease skip-checks: true", None),
        ("skip ci", None),
        ("[skip  ci]", None),
        ("[skip cide]", None),
        ("[fast failing skip]", None),
        ("", None),
        (None, None),
    ],
)
def test_skip_tags_are_recognized(message, tag):
    assert skip_tag(message) == tag


def test_only_the_ends_of_a_huge_message_are_searched():
    huge = "x" * (4 * SEARCHED_CHARACTERS)
    assert skip_tag("[skip ci]" + huge) == "[skip ci]"
    assert skip_tag(huge + "[skip ci]") is None
    assert skip_tag(huge + "\n\nskip-checks: true") == "skip-checks: true"


# --- Links and times ------------------------------------------------------------------------

LONGEST = "https://example.com/".ljust(2_048, "x")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a/b/compare/a...b",
        "http://localhost:3000/x?y=1#z",
        "https://[::1]:8/x",
        LONGEST,
    ],
)
def test_a_web_address_is_a_link(url):
    assert cleaning.link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript://example.com/%0aalert(1)",
        "data:text/html,x",
        "ftp://example.com/x",
        "//example.com/x",
        "https://",
        "https://user:secret@example.com/",
        "https://example.com/ x",
        "https://example.com/\nx",
        'https://example.com/"onclick="x',
        "https://example.com/<script>",
        "https://[::1/x",
        LONGEST + "x",
        "https://example.com/compare/" + "0" * 40 + "...a",
        "",
        None,
    ],
)
def test_nothing_else_is_a_link(url):
    assert cleaning.link(url) is None
    assert cleaning.link(url, "https://example.com/") == "https://example.com/"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-11-29T10:00:00Z", 1_795_946_400.0),
        ("2026-11-29T11:00:00.5+01:00", 1_795_946_400.5),
        ("2026-11-29T11:00:00+0100", 1_795_946_400.0),
        ("2026-11-29 10:00:00 UTC", 1_795_946_400.0),
        (1_795_946_400, 1_795_946_400.0),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("", None),
        ("soon", None),
        (-1, None),
        (0, None),
        (0.5, 0.5),
        (253_402_300_799, 253_402_300_799.0),  # the last second of the year 9999
        (253_402_300_800, None),
        (10**30, None),
        (None, None),
    ],
)
def test_times_are_read(value, seconds):
    assert cleaning.seconds(value) == seconds

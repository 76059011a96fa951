"""Globs mean what ``fnmatchcase`` says, and every pattern is fast."""

import fnmatch
import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxsched.globs import Automaton, covers, first_match, matches, one_pattern

ALPHABET = "ab*?[]!-^\\&|~/.\n\0zA\ud800\U0010ffff"
NAMES = st.text(ALPHABET, max_size=6)
PATTERNS = st.one_of(
    st.text(ALPHABET, max_size=10),
    st.text(ALPHABET, max_size=8).map("[{}]".format),
    st.lists(st.text("ab]!-^z\\", max_size=4).map("[{}]".format), max_size=3).map("*".join),
)


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("main", "main", True),
        ("main", "Main", False),
        ("Main", "main", False),
        ("feature/a/b", "*", True),
        ("feature/a/b", "feature/*", True),
        ("feature", "feature/*", False),
        ("release-1", "release-?", True),
        ("release-10", "release-?", False),
        ("release-1", "release-[12]", True),
        ("release-3", "release-[!12]", True),
        ("main2", "main", False),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
        ("a\nb", "a*b", True),
        ("main\n", "main", False),
        ("", "*", True),
        ("[x", "[x", True),
    ],
)
def test_patterns_are_globs(name, pattern, fits):
    assert matches(name, pattern) is fits


@pytest.mark.parametrize(
    "pattern",
    ["[b-a]", "[]", "[!]", "[]]", "[!]]", "[--/]", "[a\\]", "[a-]", "[-a]", "[!-a]", "[^a]", "[[a]",
     "[b-a!x]", "[!b-a]", "[c-a!-z]", "[a-b-c]", "[z-ab-c]", "[&&~|]", "[a", "a]", "**", "*[!a]*"],
)  # fmt: skip
def test_unusual_character_classes_have_their_usual_meaning(pattern):
    for name in ["", *map(chr, range(130)), "é", "ab", "[a", pattern]:
        assert matches(name, pattern) == fnmatch.fnmatchcase(name, pattern), name


@settings(max_examples=1_000, deadline=None)
@given(name=NAMES, pattern=PATTERNS)
def test_globs_agree_with_fnmatchcase(name, pattern):
    assert matches(name, pattern) == fnmatch.fnmatchcase(name, pattern)
    assert one_pattern(pattern)(name) == fnmatch.fnmatchcase(name, pattern)


@given(name=NAMES, patterns=st.lists(PATTERNS, max_size=5))
def test_the_first_matching_pattern_of_a_list_counts(name, patterns):
    fit = [i for i, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern)]
    assert first_match(name, patterns) == (fit[0] if fit else None)


def test_all_states_of_a_long_list_are_distinguished():
    patterns = [f"release-{n}" for n in range(1_000)]
    for n in (0, 7, 63, 64, 999):
        assert first_match(f"release-{n}", patterns) == n
    assert first_match("release-1000", patterns) is None


@pytest.mark.parametrize("pattern", ["*?" * 127, "*a" * 127 + "b", "*" + "[!b]*" * 50, "a*" * 127])
def test_a_thousand_hostile_patterns_end(pattern):
    """Regular expressions would need years; the time limit is generous."""
    began = time.perf_counter()
    automaton = Automaton([pattern] * 1_000)
    assert automaton.first_match("a" * 254 + "c") == (None if pattern[-1] == "b" else 0)
    assert time.perf_counter() - began < 30


@pytest.mark.parametrize(
    ("patterns", "pattern", "covered"),
    [
        (["*"], "web", True),
        (["*"], "*", True),
        (["web"], "web", True),
        (["web"], "web*", False),
        (["web*"], "web", True),
        (["web*"], "we*", False),
        (["web-*"], "web-a*", True),
        (["?*"], "*", False),
        (["?*"], "?", True),
        (["[a-z]"], "[b-d]", True),
        (["[a-z]"], "[!b]", False),
        (["[a-m]*", "[n-z]*", "[!a-z]*", ""], "*", True),
        (["a*", "b*"], "[ab]*", True),
        (["a*", "b*"], "[a-c]*", False),
        (["*a*"], "*b*", False),
        (["*a*"], "*ba*", True),
        ([], "web", False),
        ([], "[b-a]", True),  # matches nothing
        (["web"], "[b-a]", True),
        (["\U0010ffff"], "\U0010ffff", True),
        (["*.*.*"], "*.?.*", True),
    ],
)
def test_patterns_cover_another(patterns, pattern, covered):
    assert covers(patterns, pattern) is covered


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab*?[!]", max_size=5), max_size=3), st.text("ab*?[!]", max_size=5))
def test_covering_agrees_with_matching(patterns, pattern):
    """All names of up to three characters; other characters are like ``c``."""
    names = ["".join(chars) for n in range(4) for chars in itertools.product("abc![]", repeat=n)]
    wrong = [n for n in names if matches(n, pattern) and first_match(n, patterns) is None]
    if covers(patterns, pattern):
        assert not wrong
    elif len(pattern) < 3 and all(len(one) < 3 for one in patterns):
        assert wrong, "a short counterexample exists"


def test_whether_hostile_patterns_cover_another_is_found_out_in_bounded_time():
    began = time.perf_counter()
    for pattern in ("*a" + "?" * 250, "*?" * 120, "*a*b" * 60):
        covers(["*b" + "?" * 250, "*a" + "?" * 100, *["*a*b*c" * 30] * 98], pattern)
    assert time.perf_counter() - began < 5

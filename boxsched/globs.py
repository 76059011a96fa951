"""Globs with the meaning of Python's ``fnmatchcase``, matched in bounded time.

A regular expression backtracks: ``*?*?*?...`` takes seconds. Here all patterns of a list form one
automaton. A state is the number of characters of a pattern that have matched so far; the set of
reached states is one integer, one bit for each state. A ``*`` is not a state but a loop on the
state before it. So for all patterns, each character of the name costs four operations on an integer
with as many bits as the patterns have characters.

``fnmatchcase`` defines the meaning of a pattern, also of odd ones: ``[b-a]`` matches nothing, ``[``
without an end is a ``[``, ``*`` matches a newline.
"""

import functools
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

LISTS_KEPT = 64  # compiled lists
ANSWERS_KEPT = 64  # cached answers of each list
COMPARED_AT_MOST = 2_000  # pairs of states that ``covers`` looks at

_SPECIAL = "*?[]"
_LAST = 0x10FFFF
_ANY = ((0, _LAST),)

Ranges = Sequence[tuple[int, int]]  # ranges of code points, both ends included; ascending, disjoint


def matches(name: str, pattern: str) -> bool:
    return first_match(name, (pattern,)) is not None


def first_match(name: str, patterns: "Sequence[str] | Automaton") -> int | None:
    """Return the index of the first pattern that matches the name, or None.

    A list that is not compiled yet is compiled now, which takes up to 30 ms for 16,384 characters.
    """
    if not patterns:
        return None
    automaton = patterns if isinstance(patterns, Automaton) else _automaton(tuple(patterns))
    return automaton.first_match(name)


def covers(patterns: Sequence[str], pattern: str) -> bool:
    """Whether each name that ``pattern`` matches is matched by one of ``patterns``.

    Also False if that cannot be found out in bounded time, which only artificial patterns cause.
    """
    one, all_ = Automaton((pattern,)), Automaton(patterns)
    characters = _different_characters((pattern, *patterns))
    lefts, lefts_of_all = one.left_by(characters), all_.left_by(characters)
    steps = [(lefts[character], lefts_of_all[character]) for character in characters]
    begin = one.start, all_.start
    seen, waiting = {begin}, [begin]
    while waiting:
        mine, theirs = waiting.pop()
        if one.accepts(mine) and not all_.accepts(theirs):
            return False
        for left, left_of_all in steps:
            pair = one.after(mine, left), all_.after(theirs, left_of_all)
            if pair[0] and pair not in seen:
                if len(seen) >= COMPARED_AT_MOST:
                    return False
                seen.add(pair)
                waiting.append(pair)
    return True


def _different_characters(patterns: Iterable[str]) -> str:
    """Return one character of each set of characters that no pattern tells apart."""
    begins = {0}
    for pattern in patterns:
        for token in parse(pattern)[0]:
            for first, last in token.ranges:
                begins |= {first, last + 1}
    return "".join(chr(code) for code in sorted(begins) if code <= _LAST)


def one_pattern(pattern: str) -> Callable[[str], bool]:
    """Return a function that says whether names match, quick for the many that do not.

    What the pattern's first and last characters say is looked at first; for a pattern such as
    ``main`` or ``release/*`` that is all.
    """
    special = [at for at, character in enumerate(pattern) if character in _SPECIAL]
    if not special:
        return lambda name: name == pattern
    begin, end = pattern[: special[0]], pattern[special[-1] + 1 :]
    if special == [len(pattern) - 1] and pattern.endswith("*"):
        return lambda name: name.startswith(begin)
    automaton = Automaton((pattern,))

    def matches(name: str) -> bool:
        likely = name.startswith(begin) and name.endswith(end)
        return likely and automaton.first_match(name) is not None

    return matches


class GlobToken(NamedTuple):
    """The characters that match at one place, and whether a ``*`` precedes it."""

    ranges: Ranges
    starred: bool


class Automaton:
    """Bit ``s`` of an integer is state ``s``; the patterns' states follow one another."""

    def __init__(self, patterns: Iterable[str]) -> None:
        # states: start of a pattern; with a *; any character continues
        begun, looped, free = [], [], []
        self._last_states: list[int] = []
        self._literals: dict[str, list[int]] = {}  # the states that the character continues
        self._classes: list[tuple[int, int, int]] = []  # (first, last, state)
        state = 0
        for pattern in patterns:
            begun.append(state)
            tokens, starred = parse(pattern)
            for ranges, behind_star in tokens:
                if behind_star:
                    looped.append(state)
                if ranges == _ANY:
                    free.append(state)
                elif len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
                    self._literals.setdefault(chr(ranges[0][0]), []).append(state)
                else:
                    self._classes.extend((first, last, state) for first, last in ranges)
                state += 1
            if starred:
                looped.append(state)
            self._last_states.append(state)
            state += 1
        self._bytes = state // 8 + 1
        self.start, self._loops = self._bits(begun), self._bits(looped)
        self._any, self._accept = self._bits(free), self._bits(self._last_states)
        self._answers: dict[str, int | None] = {}

    def _bits(self, states: Iterable[int]) -> int:
        """Set the bits in an array of bytes first: setting a bit of a long integer copies it."""
        row = bytearray(self._bytes)
        for state in states:
            row[state >> 3] |= 1 << (state & 7)
        return int.from_bytes(row, "little")

    def __bool__(self) -> bool:
        """Whether there is a pattern."""
        return bool(self._last_states)

    def first_match(self, name: str) -> int | None:
        """Like the function ``first_match``; recent answers are cached."""
        answers = self._answers
        if name not in answers:
            if len(answers) >= ANSWERS_KEPT:
                answers.clear()
            answers[name] = self._match(name)
        return answers[name]

    def _match(self, name: str) -> int | None:
        leave = self.left_by(name)
        reached = self.start
        for character in name:
            reached = (reached & leave[character]) << 1 | reached & self._loops
            if not reached:
                return None
        ended = reached & self._accept
        if not ended:
            return None
        return bisect_left(self._last_states, (ended & -ended).bit_length() - 1)

    def after(self, reached: int, leave: int) -> int:
        """Return the states after a character. ``leave``: the states that it continues."""
        return (reached & leave) << 1 | reached & self._loops

    def accepts(self, reached: int) -> bool:
        """Whether a pattern has matched the whole name in one of these states."""
        return bool(reached & self._accept)

    def left_by(self, name: str) -> dict[str, int]:
        """Return, for each character of the name, the states that it continues."""
        characters = sorted(set(name))
        rows = [bytearray(self._bytes) for _ in characters]
        # 1. Note each class at the ends of its ranges; the characters between follow from that.
        codes = [ord(character) for character in characters]
        ends = bytearray(self._bytes)
        for first, last, state in self._classes:
            begin, end = bisect_left(codes, first), bisect_right(codes, last)
            if begin < end:
                rows[begin][state >> 3] ^= 1 << (state & 7)
                (rows[end] if end < len(rows) else ends)[state >> 3] ^= 1 << (state & 7)
        # 2. Add the states of single characters.
        found: dict[str, int] = {}
        classes = 0
        for character, row in zip(characters, rows, strict=True):
            classes ^= int.from_bytes(row, "little")
            literals = self._bits(self._literals.get(character, ()))
            found[character] = self._any | classes | literals
        return found


_automaton = functools.lru_cache(maxsize=LISTS_KEPT)(Automaton)


# --- What a pattern means -------------------------------------------------------------------


def parse(pattern: str) -> tuple[list[GlobToken], bool]:
    """Return the pattern's tokens, and whether a ``*`` follows the last one."""
    tokens: list[GlobToken] = []
    starred = False
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            starred = True
            continue
        ranges: Ranges = ((ord(character), ord(character)),)
        if character == "?":
            ranges = _ANY
        elif character == "[" and (end := _class_end(pattern, at)) is not None:
            ranges = _class(pattern[at:end])
            at = end + 1
        tokens.append(GlobToken(ranges, starred))
        starred = False
    return tokens, starred


def _class_end(pattern: str, at: int) -> int | None:
    """Return the index of the closing ``]``; None if there is no class. A ``]`` at the start, or
    after ``!``, is a member.
    """
    at += pattern.startswith("!", at)
    at += pattern.startswith("]", at)
    end = pattern.find("]", at)
    return None if end < 0 else end


def _class(text: str) -> Ranges:
    """Return what a class matches; ``text`` is the part between the brackets."""
    parts = _without_empty(_parts(text))
    # fnmatch first drops empty ranges, so a "!" that is then the first character also negates.
    negated = parts[0].startswith("!")
    if negated:
        parts[0] = parts[0][1:]
        if not parts[0] and len(parts) > 1:  # the range has lost its first character
            parts[:2] = ["-" + parts[1]]
    members = sorted(_members(parts))
    return tuple(_complement(members) if negated else _merged(members))


def _parts(text: str) -> list[str]:
    """Split the text at each ``-`` that makes a range from the character before it to the character
    after it. A ``-`` at an end, or directly after a range, is a member.
    """
    parts = []
    begin = 0
    hyphen = text.find("-", 2 if text.startswith("!") else 1)
    while hyphen >= 0:
        parts.append(text[begin:hyphen])
        begin = hyphen + 1
        hyphen = text.find("-", hyphen + 3)
    if begin < len(text) or not parts:
        parts.append(text[begin:])
    else:
        parts[-1] += "-"
    return parts


def _without_empty(parts: list[str]) -> list[str]:
    for at in range(len(parts) - 1, 0, -1):
        if parts[at - 1][-1] > parts[at][0]:
            parts[at - 1 : at + 1] = [parts[at - 1][:-1] + parts[at][1:]]
    return parts


def _members(parts: Sequence[str]) -> Iterator[tuple[int, int]]:
    for part in parts:
        yield from ((ord(character), ord(character)) for character in part)
    for left, right in itertools.pairwise(parts):
        yield ord(left[-1]), ord(right[0])


def _merged(members: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Merge ranges into sorted ones without overlaps."""
    begin, end = -1, -2
    for first, last in members:
        if first <= end + 1:
            end = max(end, last)
            continue
        if begin <= end:
            yield begin, end
        begin, end = first, last
    if begin <= end:
        yield begin, end


def _complement(members: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    begin = 0
    for first, last in _merged(members):
        if begin < first:
            yield begin, first - 1
        begin = last + 1
    if begin <= _LAST:
        yield begin, _LAST

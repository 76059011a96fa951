"""A session's terminal, on a real pseudo-terminal: its size, and the modes of the client."""

import fcntl
import os
import struct
import termios
from collections.abc import Iterator

import pytest
from asyncssh import constants

from boxsched.worker.session.terminal import MOST_CELLS, open_terminal, set_modes, set_size

# asyncssh's numbers of the modes of RFC 4254, section 8, by the names that termios has for them.
CODES = {
    {"WERASE": "VWERASE"}.get(name.removeprefix("PTY_"), name.removeprefix("PTY_")): code
    for name, code in vars(constants).items()
    if name.startswith("PTY_") and not name.startswith("PTY_OP_")
}
CHARACTERS = [name for name in CODES if name.startswith("V") and hasattr(termios, name)]
INPUT = [name for name, code in CODES.items() if 30 <= code < 42 and hasattr(termios, name)]
LOCAL = [name for name, code in CODES.items() if 50 <= code < 62 and hasattr(termios, name)]
OUTPUT = [name for name, code in CODES.items() if 70 <= code < 76 and hasattr(termios, name)]
OURS = {"VSWTCH", "IUCLC", "XCASE", "OLCUC"}  # known, but not used by any terminal of today
FLAGS = [(0, name) for name in INPUT] + [(3, name) for name in LOCAL] + [(1, n) for n in OUTPUT]


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, theirs = open_terminal(80, 24, 640, 480)
    yield theirs
    os.close(ours)
    os.close(theirs)


def size_of(terminal: int) -> tuple[int, ...]:
    return struct.unpack("HHHH", fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))


def test_a_terminal_has_the_size_that_was_asked_for(terminal: int) -> None:
    assert size_of(terminal) == (24, 80, 640, 480)
    set_size(terminal, 132, 50, 0, 1)
    assert size_of(terminal) == (50, 132, 0, 1)
    set_size(terminal, -1, MOST_CELLS + 1, MOST_CELLS, 1 << 40)
    assert size_of(terminal) == (0xFFFF, 0, 0xFFFF, 0xFFFF)


@pytest.mark.parametrize("name", sorted(set(CHARACTERS) - OURS))
def test_a_control_character_is_the_one_that_the_client_has(terminal: int, name: str) -> None:
    before = termios.tcgetattr(terminal)
    set_modes(terminal, {CODES[name]: 0x107})
    after = termios.tcgetattr(terminal)
    changed = [at for at in range(len(after[6])) if after[6][at] != before[6][at]]
    assert (changed, after[:6]) == ([getattr(termios, name)], before[:6])
    assert after[6][getattr(termios, name)] == b"\x07"
    set_modes(terminal, {CODES[name]: 255})
    assert termios.tcgetattr(terminal)[6][getattr(termios, name)] == b"\0", "255 disables it"


@pytest.mark.parametrize(("which", "name"), [one for one in FLAGS if one[1] not in OURS])
def test_a_flag_is_set_and_cleared(terminal: int, which: int, name: str) -> None:
    bit = getattr(termios, name)
    before = termios.tcgetattr(terminal)
    for value in (0, 1, 2, 0):
        set_modes(terminal, {CODES[name]: value})
        after = termios.tcgetattr(terminal)
        assert after[which] == (before[which] | bit if value else before[which] & ~bit)
        others = [0, 1, 2, 3]
        others.remove(which)
        assert [after[at] for at in others] == [before[at] for at in others]
        # without ICANON, two characters are numbers
        assert [bytes(one) if isinstance(one, bytes) else bytes([one]) for one in after[6]] == (
            before[6]
        )


def test_input_is_utf_8_if_the_client_says_so_and_unknown_modes_are_ignored(terminal: int) -> None:
    before = termios.tcgetattr(terminal)
    before[0] &= ~0x4000
    termios.tcsetattr(terminal, termios.TCSANOW, before)
    set_modes(terminal, {200: 1, 128: 38_400, CODES["IUTF8"]: 0})
    assert termios.tcgetattr(terminal) == before
    set_modes(terminal, {CODES["IUTF8"]: 1})
    assert termios.tcgetattr(terminal)[0] == before[0] | 0x4000

"""Terminals: their size, and the modes that a client asks for (RFC 4254, section 8)."""

import fcntl
import os
import struct
import termios
from collections.abc import Mapping

MOST_CELLS = 0xFFFF

# Opcode -> index of a control character.
_CHARACTERS = {
    1: termios.VINTR, 2: termios.VQUIT, 3: termios.VERASE, 4: termios.VKILL, 5: termios.VEOF,
    6: termios.VEOL, 7: termios.VEOL2, 8: termios.VSTART, 9: termios.VSTOP, 10: termios.VSUSP,
    12: termios.VREPRINT, 13: termios.VWERASE, 14: termios.VLNEXT, 18: termios.VDISCARD,
}  # fmt: skip
_INPUT, _OUTPUT, _CONTROL, _LOCAL = range(4)
# Opcode -> which flags, and the bit.
_FLAGS = {
    30: (_INPUT, termios.IGNPAR), 31: (_INPUT, termios.PARMRK), 32: (_INPUT, termios.INPCK),
    33: (_INPUT, termios.ISTRIP), 34: (_INPUT, termios.INLCR), 35: (_INPUT, termios.IGNCR),
    36: (_INPUT, termios.ICRNL), 38: (_INPUT, termios.IXON), 39: (_INPUT, termios.IXANY),
    40: (_INPUT, termios.IXOFF), 41: (_INPUT, termios.IMAXBEL),
    50: (_LOCAL, termios.ISIG), 51: (_LOCAL, termios.ICANON), 53: (_LOCAL, termios.ECHO),
    54: (_LOCAL, termios.ECHOE), 55: (_LOCAL, termios.ECHOK), 56: (_LOCAL, termios.ECHONL),
    57: (_LOCAL, termios.NOFLSH), 58: (_LOCAL, termios.TOSTOP), 59: (_LOCAL, termios.IEXTEN),
    60: (_LOCAL, termios.ECHOCTL), 61: (_LOCAL, termios.ECHOKE),
    70: (_OUTPUT, termios.OPOST), 72: (_OUTPUT, termios.ONLCR), 73: (_OUTPUT, termios.OCRNL),
    74: (_OUTPUT, termios.ONOCR), 75: (_OUTPUT, termios.ONLRET),
}  # fmt: skip
_IUTF8, _IUTF8_BIT = 42, 0x4000
_DISABLED = 255


def set_size(terminal: int, columns: int, rows: int, width: int, height: int) -> None:
    """Set the size in characters and in pixels; its programs get SIGWINCH."""
    sizes = [min(max(size, 0), MOST_CELLS) for size in (rows, columns, width, height)]
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *sizes))


def set_modes(terminal: int, modes: Mapping[int, int]) -> None:
    """Set the modes that we know; ignore the others."""
    attributes = termios.tcgetattr(terminal)
    characters = attributes[6]
    for opcode, value in modes.items():
        if opcode in _CHARACTERS:
            kept = 0 if value == _DISABLED else value & 0xFF
            characters[_CHARACTERS[opcode]] = bytes([kept])
        elif opcode in _FLAGS:
            which, bit = _FLAGS[opcode]
            attributes[which] = attributes[which] | bit if value else attributes[which] & ~bit
        elif opcode == _IUTF8 and value:
            attributes[_INPUT] |= _IUTF8_BIT
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def take_terminal() -> None:
    """Make standard input the controlling terminal of this process, the leader of its session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def open_terminal(columns: int, rows: int, width: int, height: int) -> tuple[int, int]:
    """Return our side and the programs' side of a new terminal. Raises OSError."""
    ours, theirs = os.openpty()
    set_size(ours, columns, rows, width, height)
    os.set_blocking(ours, False)
    return ours, theirs

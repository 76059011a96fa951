"""Find the command that made a turn raise an error.

A turn that raises may have changed the books partly, so they are dropped and the shard is loaded
again. Then one turn runs without commands, and afterwards the commands are taken one at a time. A
command that raises again, as the only one of its turn, is set aside with its error, and the shard
continues without it.
"""

from collections.abc import Sequence

import msgspec

from boxsched.protocol import inbox
from boxsched.protocol.batches import InboxEntry, SetAside

COMMANDS_A_TURN = 1_000
MISTAKES_AT_MOST = 5  # consecutive turns that raise without a command as the cause
ERROR_CHARACTERS = 500


class Caution:
    """Decides how many commands the next turn takes, and which command made a turn raise."""

    def __init__(self) -> None:
        self._one_by_one = 0  # how many commands must still be taken one at a time
        self._mistakes = 0

    def at_most(self, settled: bool) -> int:
        """Return the limit of commands for the next turn: 0 after a load, because the turn itself
        may raise.
        """
        if self._one_by_one == 0:
            return COMMANDS_A_TURN
        return 1 if settled else 0

    def went_well(self, entries: int) -> None:
        self._mistakes = 0
        self._one_by_one = max(0, self._one_by_one - entries)

    def nothing_waits(self) -> None:
        """Note that the inbox is empty: all commands of the turn that raised are done."""
        self._one_by_one = 0

    def to_blame(self, entries: Sequence[InboxEntry], *, alone: bool) -> InboxEntry | None:
        """Return the entry that made the turn raise; None if that is not known yet.

        ``alone``: the turn did nothing besides these commands.
        """
        if self._one_by_one == 0 and entries:
            self._one_by_one = len(entries)
        elif len(entries) == 1 and alone:
            self.went_well(1)
            return entries[0]
        else:
            self._mistakes += 1
        return None

    @property
    def goes_on(self) -> bool:
        """Whether commands are known to wait."""
        return self._one_by_one > 0

    @property
    def gives_up(self) -> bool:
        """Whether turns raise even without commands, so that loading again does not help."""
        return self._mistakes >= MISTAKES_AT_MOST


def set_aside(entry: InboxEntry, error: str, at: float) -> SetAside:
    return SetAside(entry.id, entry.kind, error, at, entry.workload or _workload(entry))


def said(error: Exception) -> str:
    """Return the error on one line, for a person."""
    text = " ".join(f"{type(error).__name__}: {error}".replace("\0", " ").split())
    text = text.encode("utf-8", "replace").decode()  # otherwise no database could store it
    return text[:ERROR_CHARACTERS].rstrip(": ")


def _workload(entry: InboxEntry) -> int | None:
    """Return the workload that a command names, if any."""
    try:
        command = inbox.read(entry.kind, entry.payload)
    except (KeyError, msgspec.DecodeError):
        return None
    return getattr(command, "workload", None)

"""Decode inbox entries into commands, as many as one turn takes."""

import logging
from collections.abc import Sequence

import attrs
import msgspec

from boxsched.engine.caution import said
from boxsched.protocol import inbox
from boxsched.protocol.batches import InboxEntry

# a turn blocks the event loop, with this limit for at most tens of milliseconds
JOBS_A_TURN = 1_000

log = logging.getLogger(__name__)


@attrs.frozen
class Taken:
    """The entries of one turn, and their commands.

    ``unreadable``: entries with their errors. They are set aside, so that they delay nothing.
    """

    entries: Sequence[InboxEntry]
    commands: Sequence[inbox.Command]
    unreadable: Sequence[tuple[InboxEntry, str]]


def read(entries: Sequence[InboxEntry]) -> Taken:
    """Decode the first entries, as many as one turn takes."""
    taken: list[InboxEntry] = []
    commands: list[inbox.Command] = []
    unreadable: list[tuple[InboxEntry, str]] = []
    jobs = 0
    for entry in entries:
        taken.append(entry)
        try:
            command = inbox.read(entry.kind, entry.payload)
        except (KeyError, msgspec.DecodeError) as error:
            log.exception("inbox entry %s of kind %r cannot be read", entry.id, entry.kind)
            unreadable.append((entry, said(error)))
            continue
        commands.append(command)
        jobs += _weight(command)
        if jobs >= JOBS_A_TURN or isinstance(command, inbox.Reload):
            break  # commands after a Reload are decided with its settings
    return Taken(taken, commands, unreadable)


def _weight(command: inbox.Command) -> int:
    """Return the approximate cost of a command, in jobs."""
    if isinstance(command, inbox.Submit):
        return len(command.jobs)
    return max(1, len(command.boxes)) if isinstance(command, inbox.BoxesSet) else 1

"""Inbox entries as commands: as many as one turn takes."""

import logging
from collections.abc import Sequence

import msgspec

from boxsched import inbox
from boxsched.store.batches import InboxEntry

JOBS_A_TURN = 1_000  # a turn holds the event loop: tens of milliseconds at the most

log = logging.getLogger(__name__)


def read(
    entries: Sequence[InboxEntry],
) -> tuple[list[InboxEntry], list[inbox.Command], list[InboxEntry]]:
    """As many entries as are one turn's, their commands, and those that no one can read: these go
    into the history, so that they hold up nobody and are not lost."""
    taken: list[InboxEntry] = []
    commands: list[inbox.Command] = []
    unreadable: list[InboxEntry] = []
    jobs = 0
    for entry in entries:
        taken.append(entry)
        try:
            command = inbox.read(entry.kind, entry.payload)
        except (KeyError, msgspec.DecodeError):
            log.exception("inbox entry %s of kind %r cannot be read", entry.id, entry.kind)
            unreadable.append(entry)
            continue
        commands.append(command)
        jobs += _weight(command)
        if jobs >= JOBS_A_TURN:
            break
    return taken, commands, unreadable


def _weight(command: inbox.Command) -> int:
    """In jobs, about."""
    if isinstance(command, inbox.Submit):
        return len(command.jobs)
    return max(1, len(command.boxes)) if isinstance(command, inbox.BoxesSet) else 1

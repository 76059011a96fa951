"""Inbox entries become the commands of one turn; an unreadable entry blocks no other."""

import pytest

from boxsched.engine import entries
from boxsched.protocol import inbox
from boxsched.protocol.batches import InboxEntry


def entry(id_: int, command: inbox.Command) -> InboxEntry:
    return InboxEntry(id_, *inbox.written(command))


@pytest.mark.parametrize(("kind", "payload"), [("stop", b"[1"), ("unheard-of", b"[]")])
def test_entries_after_an_unreadable_one_are_in_the_same_turn(kind: str, payload: bytes) -> None:
    first, odd = entry(1, inbox.Stop(7, "ann")), InboxEntry(2, kind, payload)
    last = entry(3, inbox.Stop(8, "bob"))
    taken = entries.read([first, odd, last])
    assert taken.commands == [inbox.Stop(7, "ann"), inbox.Stop(8, "bob")]
    assert taken.entries == [first, odd, last]
    assert [one for one, _ in taken.unreadable] == [odd]


def test_a_reload_is_the_last_of_its_turn() -> None:
    given = [entry(1, inbox.Stop(7, "ann")), entry(2, inbox.Reload()), entry(3, inbox.Reload())]
    taken = entries.read(given)
    assert taken.entries == given[:2]
    assert taken.commands == [inbox.Stop(7, "ann"), inbox.Reload()]

"""What a node remembers of its database is written outside of the event loop."""

import threading
from pathlib import Path

import pytest

from boxsched.store.marks import Descent, Mark, Seen, lower
from boxsched.store.memory import FILE, Memory
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import Leader

MARK = Mark("system", 1, "run", "cluster", (Descent("first", False, "system", 1),), {1: (1, 1)})
LATER = Mark("system", 1, "run", "cluster", MARK.lineage, {1: (1, 2)})


def test_the_highest_timeline_of_a_system_is_remembered() -> None:
    seen = Seen()
    assert seen.note(Mark("system", 2, "run", "cluster"))
    assert not seen.note(Mark("system", 1, "run", "cluster"))
    assert seen.timeline == 2
    assert seen.note(Mark("other", 1, "run", "cluster"))
    assert (seen.system, seen.timeline) == ("other", 1)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({1: (4, 9), 2: (7, 1)}, None),
        ({1: (5, 10), 2: (7, 1), 3: (1, 1)}, None),
        ({1: (3, 9), 2: (7, 1)}, "shard 1 is at epoch 3, batch 9, but epoch 4, batch 9"),
        ({1: (4, 8), 2: (7, 1)}, "shard 1 is at epoch 4, batch 8, but epoch 4, batch 9"),
        ({1: (5, 8), 2: (7, 1)}, "shard 1 is at epoch 5, batch 8, but epoch 4, batch 9"),
        ({1: (4, 9), 2: (7, 0)}, "shard 2 is at epoch 7, batch 0, but epoch 7, batch 1"),
        ({1: (4, 9)}, "shard 2 is at epoch 0, batch 0, but epoch 7, batch 1"),
        ({}, "shard 1 is at epoch 0, batch 0, but epoch 4, batch 9"),
    ],
)
def test_a_database_that_has_fewer_batches_than_before_is_an_older_copy(
    found: dict[int, tuple[int, int]], said: str | None
) -> None:
    seen = {2: (7, 1), 1: (4, 9)}
    assert lower(found, seen) == (None if said is None else f"{said} have been seen")


class Writes:
    """Writes of the memory's file: in which thread, and whether it was synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[threading.Thread] = []
        self.synced: list[bool] = []
        self.failing = False
        write = Memory._write

        def noted(memory: Memory, path: Path, text: bytes, *, sync: bool) -> None:
            self.threads.append(threading.current_thread())
            if self.failing:
                raise OSError(28, "No space left on device")
            self.synced.append(sync)
            write(memory, path, text, sync=sync)

        monkeypatch.setattr(Memory, "_write", noted)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


async def test_no_store_writes_the_file_on_the_event_loop(
    db: DatabaseUnderTest, writes: Writes
) -> None:
    store = await db.open()
    await (await Leader(store).lead()).commit()
    await db.close()
    assert writes.threads
    assert threading.main_thread() not in writes.threads


def test_a_new_history_is_synced_and_a_new_number_is_not(tmp_path: Path, writes: Writes) -> None:
    memory = Memory(tmp_path)
    memory.note(MARK)
    memory.save()
    memory.save()  # nothing is new
    memory.note(LATER)
    memory.save()
    assert writes.synced == [True, False]
    again = Memory(tmp_path)
    again.load()
    assert again.seen == memory.seen


def test_a_new_history_that_could_not_be_written_is_synced_later(
    tmp_path: Path, writes: Writes
) -> None:
    memory = Memory(tmp_path)
    writes.failing = True
    memory.note(MARK)
    memory.save()
    writes.failing = False
    memory.note(LATER)
    memory.save()
    assert writes.synced == [True]
    assert (tmp_path / FILE).exists()

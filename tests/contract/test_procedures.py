"""Decisions inside procedures of the store, and of its drivers, without a database."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import psycopg2
import pytest
from psycopg2 import errorcodes

from boxsched.errors import Conflict, Invalid, StoreAway, TooLong
from boxsched.protocol.workers import NewWorker
from boxsched.store.blocks import Row, Steps
from boxsched.store.errors import BoundToAnother, InUse, StoreDamaged
from boxsched.store.postgres import errors
from boxsched.store.postgres.driver import PostgresProcedures
from boxsched.store.sqlite import driver, readers
from boxsched.store.sqlite.driver import SqliteDriver
from boxsched.store.sqlite.readers import Readers
from boxsched.store.sqlite.session import session
from boxsched.store.steps import reads, workers
from boxsched.store.steps.notifications import KEPT, StoredTarget, Target, check_tokens
from tests.contract.store_data import worker

# --- Which worker connects ----------------------------------------------------------------------


def found(new: NewWorker, *rows: Row) -> Any:
    """Return what is known of the worker, if these rows are stored."""
    steps: Steps[Any] = workers._find(new)
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(list(rows))
    return end.value.value


def row(
    id_: int, identity: str | None, name: str, token: str = "t", holds: int = 1,
    *, organization: int = 1, node: str = "node-2", start: str | None = None, fresh: int = 1,
) -> Row:  # fmt: skip
    return id_, identity, name, organization, token, holds, "192.0.2.7", node, start, fresh


ME = worker("w", token="t", identity="me")
MINE, UNNAMED, OTHER = row(1, "me", "old"), row(2, None, "w"), row(3, "you", "w")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], None),
        ([MINE], (1, True)),
        ([row(1, "me", "w")], (1, True)),
        ([UNNAMED], (2, True)),
        ([row(1, "me", "w", "another", 0)], (1, False)),
        ([row(1, "me", "w", "t", 0)], (1, True)),
    ],
)
def test_a_worker_is_known_by_its_identity_or_by_a_name_without_one(
    rows: list[Row], expected: Any
) -> None:
    assert found(ME, *rows) == expected


@pytest.mark.parametrize("rows", [[OTHER], [MINE, OTHER], [OTHER, MINE], [MINE, UNNAMED]])
def test_the_name_of_another_worker_is_refused(rows: list[Row]) -> None:
    with pytest.raises(Conflict, match="another worker has the name 'w'") as refused:
        found(ME, *rows)
    assert not isinstance(refused.value, BoundToAnother)


def test_a_worker_of_another_organization_or_token_is_refused() -> None:
    with pytest.raises(BoundToAnother, match="bound to another token, u"):
        found(ME, row(1, "me", "w", "u"))
    with pytest.raises(Conflict, match="another organization"):
        found(ME, row(1, "me", "w", organization=2))


@pytest.mark.parametrize(
    ("changes", "is_copy"),
    [
        ({}, True),
        ({"start": "second"}, False),
        ({"start": None}, False),
        ({"fresh": 0}, False),
        ({"node": "node-1"}, False),
    ],
    ids=["copy", "itself", "older program", "silent", "this node's"],
)
def test_a_worker_is_refused_while_another_process_is_connected_as_it(
    changes: dict[str, Any], is_copy: bool
) -> None:
    """``new`` comes to node-1."""
    new = attrs.evolve(ME, start="second")
    known = row(1, "me", "w", **{"start": "first", **changes})
    if not is_copy:
        assert found(new, known) == (1, True)
        return
    with pytest.raises(InUse, match=r"from 192\.0\.2\.7 to the node node-2"):
        found(new, known)
    assert found(attrs.evolve(new, start=None), known) == (1, True), "an older program"


# --- Tokens of commit statuses ------------------------------------------------------------------


def target(name: str = "statuses", host: str = "h", seal: Any = KEPT, **changes: Any) -> Target:
    values = {"provider": "github", "url": f"https://{host}", "events": ()} | changes
    return Target(name=name, host=host, seal=seal, **values)


STORED = [StoredTarget("statuses", "h", "sealed"), StoredTarget("open", "h", None)]


def test_a_token_is_kept_for_its_own_host_only() -> None:
    check_tokens(STORED, [target()])
    check_tokens([], [target(seal=lambda project, version: "new")])
    check_tokens([], [target(provider=None)])
    with pytest.raises(Invalid, match="because the host has changed"):
        check_tokens(STORED, [target(host="another")])
    for stored, name in ((STORED, "open"), (STORED, "new"), ([], "statuses")):
        with pytest.raises(Invalid, match="commit statuses need a token"):
            check_tokens(stored, [target(name=name)])


# --- PostgreSQL -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["read", "snapshot", "load", "write"])
async def test_a_closed_store_over_postgresql_is_away(kind: str) -> None:
    servers: Any = SimpleNamespace(url="postgresql://u:secret@h/d")
    procedures = PostgresProcedures(servers, 1, Counter())
    with pytest.raises(StoreAway, match="the store is closed") as refused:
        await getattr(procedures, kind)(reads.ping)
    assert "secret" not in str(refused.value)
    await procedures.close()


class Refused(psycopg2.Error):
    """An error of the server; psycopg2's own can only be made by a server."""

    def __init__(self, code: str, table: str | None, column: str | None) -> None:
        super().__init__("of the test")
        self.code = code
        self.shown = SimpleNamespace(
            severity_nonlocalized="ERROR", table_name=table, column_name=column,
            constraint_name=None,
        )  # fmt: skip

    pgcode = property(lambda self: self.code)  # type: ignore[assignment]
    diag = property(lambda self: self.shown)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("code", "table", "column", "kind"),
    [
        (errorcodes.NOT_NULL_VIOLATION, "shard", "batch", "Fenced"),
        (errorcodes.NOT_NULL_VIOLATION, "shard", "epoch", "InvariantRefused"),
        (errorcodes.NOT_NULL_VIOLATION, "job", "batch", "InvariantRefused"),
        (errorcodes.CHECK_VIOLATION, "shard", "batch", "InvariantRefused"),
        (errorcodes.LOCK_NOT_AVAILABLE, "shard", "batch", "RowHeld"),
    ],
)
def test_only_an_empty_batch_of_a_shard_is_the_fence(
    code: str, table: str, column: str, kind: str
) -> None:
    assert type(errors.translated(Refused(code, table, column))).__name__ == kind


# --- SQLite ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("took", "together"), [(0.0, "abcd"), (0.6, "ab"), (1.0, "ab"), (1.1, "a"), (9.0, "a")]
)
def test_writes_share_a_transaction_only_for_a_short_time(
    monkeypatch: pytest.MonkeyPatch, took: float, together: str
) -> None:
    """The others are written by the next one. ``took``: in parts of that time."""
    now = [100.0]

    class OneWriter:
        def run(self, steps: str) -> str:
            now[0] += took
            return steps

    monkeypatch.setattr(driver, "TOGETHER_SECONDS", 1.0)
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: now[0]))
    writer: Any = OneWriter()
    assert driver._run(writer, "abcd") == list(together)  # type: ignore[arg-type]


async def test_a_closed_store_over_sqlite_is_away(tmp_path: Path) -> None:
    file = SqliteDriver(tmp_path / "boxsched.sqlite", tmp_path / "lock")
    await file.open()
    await file.serving.write(reads.ping)
    for _ in range(2):
        await file.close()
        for kind in ("write", "read", "load", "snapshot"):
            with pytest.raises(StoreAway, match="the store is closed"):
                await getattr(file.serving, kind)(reads.ping)


def _write_nonsense(path: Path) -> None:
    with session(path, writing=True) as writing:
        writing.raw.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        writing.raw.execute("nonsense")


def test_an_error_in_the_transaction_of_a_command_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "boxsched.sqlite"
    path.touch()
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        _write_nonsense(path)
    with session(path, writing=False) as reading:
        assert reading.said() == {}, "nothing was committed"
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reading.raw.execute("CREATE TABLE meta (key TEXT, value TEXT)")
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(StoreDamaged, match="is damaged"), session(path, writing=False) as reading:
        reading.said()
    with (
        pytest.raises(StoreAway, match="there is no database"),
        session(tmp_path / "none", writing=False),
    ):
        pass


async def busy(reading: Readers) -> asyncio.Task[Any]:
    """Try to read while all places are taken."""
    await reading._places.acquire()
    task = asyncio.create_task(reading.read(reads.ping()))
    await asyncio.sleep(0)
    return task


async def test_a_read_with_a_deadline_does_not_wait_long_for_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "ACQUIRE_SECONDS", 0.0)
    limited = Readers(tmp_path / "x", "a", 1, 5.0)
    with pytest.raises(TooLong, match="no connection became free within 0 s"):
        await (await busy(limited))


async def test_a_read_without_a_deadline_waits_for_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "ACQUIRE_SECONDS", 0.0)
    patient = Readers(tmp_path / "x", "b", 1)
    task = await busy(patient)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    patient._places.release()
    with pytest.raises(StoreAway, match="the store is closed"):  # it was never opened
        await task
    assert not patient._places.locked(), "its place is free again"


class Raw:
    """A connection of SQLite. ``rolls``: whether it can roll back."""

    def __init__(self, *, rolls: bool, in_transaction: bool = True) -> None:
        self.rolls, self.in_transaction = rolls, in_transaction
        self.done: list[str] = []

    def execute(self, text: str) -> None:
        self.done.append(text)
        if not self.rolls:
            raise sqlite3.OperationalError("disk I/O error")

    def close(self) -> None:
        self.done.append("close")


@pytest.mark.parametrize(
    ("raw", "done", "kept"),
    [
        (Raw(rolls=True), ["ROLLBACK"], True),
        (Raw(rolls=True, in_transaction=False), [], True),
        (Raw(rolls=False), ["ROLLBACK", "close"], False),
    ],
    ids=["rolled back", "not begun", "broken"],
)
def test_a_failed_transaction_leaves_no_half_open_connection(
    tmp_path: Path, raw: Raw, done: Sequence[str], kept: bool
) -> None:
    writer: Any = SimpleNamespace(raw=raw)
    driver: Any = SqliteDriver.__new__(SqliteDriver)
    driver.path, driver._writer = tmp_path / "x", writer
    undone: Callable[[Any], Any] = driver._undone_on_error
    with pytest.raises(RuntimeError, match="of the test"), undone(writer):
        raise RuntimeError("of the test")
    assert raw.done == done
    assert (driver._writer is writer) is kept
    raw.done.clear()
    with undone(writer):
        pass
    assert raw.done == [], "nothing failed"

"""An SQLite connection that runs procedures: translation to SQLite's syntax, adapters, and
statements with many rows.

With a busy event loop the interpreter's lock is the bottleneck: the module releases it at every
step of a statement, that is for each returned row, and takes up to the switch interval to get it
again. So we use few statements with many rows each, and a single JSON text for long, frequent
results. (``executemany`` of 60 rows took 497 ms with a busy loop, 0.8 ms with an idle one.)
"""

import operator
import sqlite3
import time
from itertools import chain
from pathlib import Path
from typing import TypeVar

from boxsched.model import Cancellation, Kind, Policy
from boxsched.states import JobState, Result, State, StopCause
from boxsched.store.blocks import Block, Call, Row, Steps, load

T = TypeVar("T")

# There is a prepared statement for each of these numbers of rows. Other numbers are filled up with
# rows of NULL, which every block leaves out.
ROW_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
STATEMENTS_KEPT = 40 * len(ROW_COUNTS)
BUSY_SECONDS = 1.0  # only locks of other programs cause a wait

# PostgreSQL's syntax in the SQL texts, and SQLite's replacement.
_WORDS = {
    "BIGSERIAL PRIMARY KEY": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "BIGINT PRIMARY KEY": "INTEGER PRIMARY KEY",
    "BYTEA": "BLOB",
    "/* WITHOUT ROWID */": "WITHOUT ROWID",
    "json_agg(json_build_array(": "json_group_array(json_array(",
    "exact(": "quote(",  # all digits of a double; in JSON it would have 15
    " FOR NO KEY UPDATE OF project": "",
    " FOR NO KEY UPDATE OF worker": "",
    " FOR NO KEY UPDATE OF token": "",
    " FOR NO KEY UPDATE OF job": "",
    " FOR NO KEY UPDATE OF organization": "",
    " FOR KEY SHARE OF organization": "",
    " FOR UPDATE OF organization": "",
    "\n   FOR UPDATE OF n SKIP LOCKED": "",
    "EXTRACT(EPOCH FROM clock_timestamp())": "(julianday('now') - 2440587.5) * 86400",
}

# Without an adapter the module needs 0.6 us to bind a None, with one 0.15 us.
_nothing: dict[None, None] = {}
sqlite3.register_adapter(type(None), _nothing.get)
sqlite3.register_adapter(bool, int)
for _enum in (State, JobState, Result, StopCause, Kind, Cancellation, Policy):
    sqlite3.register_adapter(_enum, operator.attrgetter("_value_"))


def worded(text: str) -> str:
    """Translate a text of ``sql/`` to SQLite's syntax."""
    for ours, theirs in _WORDS.items():
        text = text.replace(ours, theirs)
    return text


class SqliteConnection:
    """A connection with its prepared statements; used by one thread at a time."""

    def __init__(self, path: Path, *, mode: str) -> None:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        self.raw = sqlite3.connect(
            uri,
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS_KEPT,
        )
        self.until: float | None = None  # when the current read must end, by the monotonic clock
        self._texts: dict[tuple[Block, int], str] = {}
        self._own = load("sqlite.sql")

    def close(self) -> None:
        self.raw.close()

    def is_late(self) -> bool:
        """Whether the deadline has passed. SQLite calls this repeatedly, and ends the statement if
        it is true.
        """
        return self.until is not None and time.monotonic() > self.until

    def run(self, steps: Steps[T]) -> T:
        """A procedure to its end."""
        try:
            call = next(steps)
            while True:
                call = steps.send(self.execute(call))
        except StopIteration as end:
            answer: T = end.value
            return answer

    def execute(self, call: Call) -> list[Row]:
        block, values, rows = call
        if rows is None:
            return self.raw.execute(self._text(block, 0), values).fetchall()
        found: list[Row] = []
        for start in range(0, len(rows), ROW_COUNTS[-1]):
            chunk = rows[start : start + ROW_COUNTS[-1]]
            count = next(size for size in ROW_COUNTS if size >= len(chunk))
            filler = (None,) + (0,) * (len(block.row_names) - 1)
            filled = chain(chunk, [filler] * (count - len(chunk)), [values])
            parameters = list(chain.from_iterable(filled))
            found += self.raw.execute(self._text(block, count), parameters).fetchall()
        return found

    def _text(self, block: Block, rows: int) -> str:
        text = self._texts.get((block, rows))
        if text is None:
            own = self._own.get(block.name, block)
            assert own.names == block.names
            text = self._texts[block, rows] = worded(own.written("?", rows))
        return text

"""The interface of a database: it runs procedures (``steps``) in transactions of three kinds.

Three uses of the database have separate connections, so that none waits for another:

* ``deciding``: the engine. It reads its inbox, commits, and loads a shard.
* ``serving``: writes, and look-ups by a key, which requests and workers need.
* ``reading``: lists, histories and logs. Each read has a deadline (``TooLong``).
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from boxsched.store.blocks import Call, Row, Steps

if TYPE_CHECKING:
    from boxsched.store.postgres.servers import PostgresServers

P = ParamSpec("P")
T = TypeVar("T")

READ_SECONDS = 1.5  # time limit of a read of ``reading``
ACQUIRE_SECONDS = 1.0  # time limit of its wait for a connection


class Procedures(Protocol):
    """The connections of one use. A procedure is passed with its arguments, so that it can be run
    again.
    """

    async def write(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one transaction, which is durable when this returns. If the waiting caller is
        cancelled, the transaction is done completely or not at all; ``close`` waits for it.
        """

    async def load(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like ``snapshot``, for reads that grow with the data. The procedure's own work between
        its statements runs in a thread, so that the event loop is not blocked. Cancelling the
        caller ends the procedure."""

    async def read(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a procedure of one statement, which sees everything committed before it."""

    async def snapshot(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a procedure of several statements, which all see the same moment."""


class StoreDriver(Protocol):
    # to the database, by the procedure's name; empty for a database in this process
    round_trips: Counter[str]

    @property
    def is_near(self) -> bool:
        """Whether the database is in this process, so that statements need no round trips."""

    @property
    def servers(self) -> "PostgresServers | None":
        """The database's servers; None for a file."""

    @property
    def deciding(self) -> Procedures: ...

    @property
    def serving(self) -> Procedures: ...

    @property
    def reading(self) -> Procedures: ...

    async def open(self) -> None:
        """Connect, and prepare or upgrade the schema under a lock."""

    async def close(self) -> None: ...


class WatchedDriver(StoreDriver, Protocol):
    """A driver whose failures are noted (``outage``)."""

    @property
    def writes_fail(self) -> bool:
        """Whether the last write failed, of any of the three uses."""


def advanced(steps: Steps[T], found: list[Row] | None) -> Call | tuple[T]:
    """Return the procedure's next statement, or its result in a tuple. ``found`` None starts it.

    Needed for threads, because a StopIteration cannot be passed out of a thread.
    """
    try:
        return next(steps) if found is None else steps.send(found)
    except StopIteration as end:
        answer: T = end.value
        return (answer,)

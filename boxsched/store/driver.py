"""The interface of a database: it runs procedures (``steps``) in transactions of three kinds.

Three uses of the database have connections of their own, so that none waits for another's:

* ``deciding``: the engine. It reads its inbox, commits, and loads a shard.
* ``serving``: writes, and look-ups by a key, which a request or a worker cannot do without.
* ``reading``: lists, histories and logs. Each read has a deadline (``TooLong``).
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from boxsched.store.blocks import Call, Row, Steps

if TYPE_CHECKING:
    from boxsched.store.postgres.servers import Servers

P = ParamSpec("P")
T = TypeVar("T")

READ_SECONDS = 1.5  # the longest that one read of ``reading`` may take
ACQUIRE_SECONDS = 1.0  # the longest that it may wait for a connection


class Procedures(Protocol):
    """The connections of one use. A procedure is given with its arguments, so that it can be run
    again from its beginning."""

    async def write(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction, durable when this returns. If the caller is cancelled while it waits,
        the transaction is done whole or not at all; ``close`` waits for it."""

    async def load(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like ``snapshot``, for reads that grow with the data. The procedure's own work between
        its statements runs in a thread, so that the event loop is not blocked. Cancelling the
        caller ends the procedure."""

    async def read(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """For a procedure of one statement: it sees what was committed before it."""

    async def snapshot(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """For a procedure of several statements: all of them see one moment."""


class Driver(Protocol):
    round_trips: Counter[str]  # to the database, by the procedure's name; nothing where none is far

    @property
    def is_near(self) -> bool:
        """Whether the database is in this process: one more statement is no round trip."""

    @property
    def writes_fail(self) -> bool:
        """Whether the last write failed, of any of the three uses."""

    @property
    def servers(self) -> "Servers | None":
        """Where the database is; None where it is a file."""

    @property
    def deciding(self) -> Procedures: ...

    @property
    def serving(self) -> Procedures: ...

    @property
    def reading(self) -> Procedures: ...

    async def open(self) -> None:
        """Connect, and prepare or upgrade the schema under a lock."""

    async def close(self) -> None: ...


def advanced(steps: Steps[T], found: list[Row] | None) -> Call | tuple[T]:
    """The procedure's next statement, or its answer in a tuple; ``found`` None begins it.

    For threads: a StopIteration cannot leave one.
    """
    try:
        return next(steps) if found is None else steps.send(found)
    except StopIteration as end:
        answer: T = end.value
        return (answer,)

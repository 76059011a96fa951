"""What a database has to bring: it runs procedures (``steps``) in transactions of three kinds."""

from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from boxsched.store.blocks import Steps

P = ParamSpec("P")
T = TypeVar("T")


class Driver(Protocol):
    """A procedure is given with its arguments, so that it can be run again from its beginning."""

    round_trips: Counter[str]  # to the database, by the procedure's name; nothing where none is far

    async def open(self) -> None:
        """Connect, and prepare or upgrade the schema under a lock."""

    async def close(self) -> None: ...

    async def write(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction, durable when this returns. Whoever is cancelled while it waits here
        leaves a transaction that will be done whole or not at all; ``close`` waits for it."""

    async def load(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``snapshot``, for what takes the longer the more there is. What the procedure does
        between its statements is done on the event loop, which serves others meanwhile. Whoever is
        cancelled ends it."""

    async def read(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """For a procedure of one statement: it sees what was committed before it."""

    async def snapshot(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """For a procedure of several statements: all of them see one moment."""

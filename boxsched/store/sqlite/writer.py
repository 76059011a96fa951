"""The thread that writes to SQLite: procedures that wait while it works share its next transaction.

A single procedure has its own transaction. Several that wait (submissions, an engine's batch, logs)
share one, with one COMMIT and one fsync. If one of them fails, the transaction is rolled back, and
each is repeated in a separate transaction. So a procedure is done completely or not at all, and
never fails because of another. Only if the outcome of the COMMIT is unknown, all of them get that
error.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs

from boxsched.errors import OutcomeUnknown
from boxsched.store.blocks import Steps

T = TypeVar("T")

TOGETHER_AT_MOST = 64  # procedures in one transaction


@attrs.frozen(eq=False)
class Member:
    """A waiting procedure: a function that begins it, and the future of its result."""

    begin: Callable[[], Steps[Any]]
    future: asyncio.Future[Any]


Outcome = tuple[Member, Any, BaseException | None]  # a member with its result or its error


class Writer:
    """``transact`` runs procedures in one transaction, in the thread, and returns their results. If
    all would take too long, it returns those of the first ones, at least of one.
    """

    def __init__(self, transact: Callable[[Sequence[Steps[Any]]], Sequence[Any]]) -> None:
        self._transact = transact
        self._thread = ThreadPoolExecutor(1, "store-writer")
        self._lock = threading.Lock()  # protects the next two fields
        self._waiting: deque[Member] = deque()
        self._at_work = False

    async def write(self, begin: Callable[[], Steps[T]]) -> T:
        """Return the procedure's result when its transaction is durable.

        If the caller is cancelled, the procedure is done completely or not at all.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._waiting.append(Member(begin, future))
            begins, self._at_work = not self._at_work, True
        if begins:
            self._thread.submit(self._work, loop)
        return await future

    async def alone(self, work: Callable[[], T]) -> T:
        """Run the work in the thread, between two transactions."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self, work: Callable[[], None]) -> None:
        """Run the waiting procedures, then the work, and end the thread. No more calls of ``write``
        may follow.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._finish, loop, work)
        finally:
            self.end()

    def end(self) -> None:
        self._thread.shutdown(wait=False)

    # --- In the thread ----------------------------------------------------------------------

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run one transaction, and queue the next one."""
        self._write_next(loop)
        with self._lock:
            self._at_work = bool(self._waiting)
            if self._at_work:
                self._thread.submit(self._work, loop)

    def _finish(self, loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
        while self._write_next(loop):
            pass
        work()

    def _write_next(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Run a transaction; return False if nothing waits. Skip cancelled callers."""
        with self._lock:
            count = min(len(self._waiting), TOGETHER_AT_MOST)
            group = [self._waiting.popleft() for _ in range(count)]
        wanted = [member for member in group if not member.future.cancelled()]
        if wanted:
            outcomes = self._outcomes(wanted)
            with self._lock:  # a long transaction is committed before all of them have run
                self._waiting.extendleft(reversed(wanted[len(outcomes) :]))
            loop.call_soon_threadsafe(_answer, outcomes)
        return bool(group)

    def _outcomes(self, group: Sequence[Member]) -> list[Outcome]:
        """Return the outcomes of the first members, at least of one."""
        try:
            answers = self._transact([member.begin() for member in group])
        except OutcomeUnknown as error:
            return [(member, None, error) for member in group]  # all of it may have been committed
        except BaseException as error:  # noqa: BLE001 (its caller gets it)
            if len(group) == 1:
                return [(group[0], None, error)]
            return [outcome for member in group for outcome in self._outcomes([member])]
        return [(member, answer, None) for member, answer in zip(group, answers, strict=False)]


def _answer(outcomes: Sequence[Outcome]) -> None:
    for member, answer, error in outcomes:
        if member.future.done():
            continue
        if error is None:
            member.future.set_result(answer)
        else:
            member.future.set_exception(error)

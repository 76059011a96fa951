"""The thread that writes to SQLite: what waits while it works goes into its next transaction.

A procedure alone has a transaction of its own. Several that wait (submissions, an engine's batch,
logs) share one, and with it one COMMIT and one fsync. Where one of them fails, the transaction is
rolled back, and each of them is begun anew in a transaction of its own: so a procedure is done
whole or not at all, and never fails because of another. Only where it is not known whether the
COMMIT was done, all of them are told so.
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
    """A procedure that waits to be run, as a call that begins it, and who waits for its answer."""

    begin: Callable[[], Steps[Any]]
    future: asyncio.Future[Any]


Outcome = tuple[Member, Any, BaseException | None]  # its answer, or its error


class Writer:
    """``transact`` runs procedures in one transaction, in the thread, and returns their answers: of
    the first ones, where all of them would take too long; at least of one."""

    def __init__(self, transact: Callable[[Sequence[Steps[Any]]], Sequence[Any]]) -> None:
        self._transact = transact
        self._thread = ThreadPoolExecutor(1, "store-writer")
        self._lock = threading.Lock()  # of the two below
        self._waiting: deque[Member] = deque()
        self._at_work = False

    async def write(self, begin: Callable[[], Steps[T]]) -> T:
        """The procedure's answer, when its transaction is durable.

        A caller that is cancelled leaves a procedure that is done whole or not at all.
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
        """Runs the work in the thread, between two transactions."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self, work: Callable[[], None]) -> None:
        """Does what waits, then the work, and ends the thread. Nothing may be written any more."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._finish, loop, work)
        finally:
            self.end()

    def end(self) -> None:
        self._thread.shutdown(wait=False)

    # --- In the thread ----------------------------------------------------------------------

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """One transaction; the next one waits its turn in the thread's queue."""
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
        """False where nothing waits. Callers that have gone are left out."""
        with self._lock:
            count = min(len(self._waiting), TOGETHER_AT_MOST)
            group = [self._waiting.popleft() for _ in range(count)]
        wanted = [member for member in group if not member.future.cancelled()]
        if wanted:
            outcomes = self._outcomes(wanted)
            with self._lock:  # a transaction that takes long is committed before it has all of them
                self._waiting.extendleft(reversed(wanted[len(outcomes) :]))
            loop.call_soon_threadsafe(_answer, outcomes)
        return bool(group)

    def _outcomes(self, group: Sequence[Member]) -> list[Outcome]:
        """Of the first members, at least of one."""
        try:
            answers = self._transact([member.begin() for member in group])
        except OutcomeUnknown as error:
            return [(member, None, error) for member in group]  # all of it may be there
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

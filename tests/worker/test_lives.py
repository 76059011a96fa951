"""Agent, supervisors and spawner die at random changes of files; nothing is lost or runs twice.

Everything except the store is real: processes, files, locks. A crash of the agent is an exception
at its n-th change of a file and at every later one; then everything it had open is closed, as the
system does for a dead process. ``BOXSCHED_LIVES=200`` runs that many examples.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from boxsched.protocol.assignments import Assignment
from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result
from boxsched.worker.agent import attempt_watcher, forking
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.outbox import Report
from boxsched.worker.agent.site import FolderInUse
from boxsched.worker.supervisor import folder as files
from tests.worker import crash
from tests.worker.crash import Crash, Crashed
from tests.worker.harness import LIMIT_SECONDS, AgentHarness, StoreDouble, alive, assigned, at, job

EXAMPLES = int(os.environ.get("BOXSCHED_LIVES", "8"))
OUTPUT = b"".join(b"%d\n" % i for i in range(1, 301))
JOBS = range(1, 5)


class WatchedStore(StoreDouble):
    """Checks the machine when an end is reported."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    async def report(self, reports: Sequence[Report]) -> None:
        for said in reports:
            if isinstance(said, JobFinished):
                self._check(said)
        await super().report(reports)

    def _check(self, said: JobFinished) -> None:
        number = said.lease_token
        before = self.finished(number)
        assert before is None or before.result is said.result, "two ends of one attempt"
        place = self.folder / f"w{number}-1-1"
        if place.is_dir():
            started = note(at(place), files.STARTED, files.Started)
            assert started is None or not alive(started.pid), "an end before its supervisor's"
            log = (place / files.LOG).read_bytes()
            assert self.log_of(job(number)) == log, "an end before its log"
        pid = self.folder.parent / f"pid-{number}"
        if pid.exists() and pid.read_text():
            assert not alive(int(pid.read_text())), "an end before its processes'"


class AgentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.harness = AgentHarness(self.top / "worker", stop_grace=5.0)
        self.harness.store = WatchedStore(self.harness.folder)
        self.wanted: dict[int, Assignment] = {}
        self.ever: set[int] = set()
        self.unwanted: set[int] = set()
        self.crash = Crash()
        self.armed = ExitStack()

    # --- The agent --------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.loop.run_until_complete(self._new_life())

    async def _new_life(self) -> None:
        """Start agents until one survives: a planned crash may come during the start."""
        self.harness.agent = self.harness._agent()
        self.armed.enter_context(self.crash.armed())
        try:
            await self._start()
            await self.harness.agent.reconcile(self._level())
        except Crashed:
            await self._end_life()

    async def _start(self) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                try:
                    return await self.harness.agent.start()
                except FolderInUse:  # by a program that the last one forked, until its exec
                    await asyncio.sleep(0.005)

    async def _end_life(self) -> None:
        await self.harness.agent.close()
        self.armed.close()
        self.crash = Crash()
        await self._new_life()

    def _level(self) -> list[Assignment]:
        """Return the level as the engine gives it: without ended jobs, and it knows which have
        started."""
        store = self.harness.store
        return [
            attrs.evolve(wanted, started=bool(store.started(number)))
            for number, wanted in self.wanted.items()
            if store.finished(number) is None
        ]

    async def _tell(self) -> None:
        try:
            await self.harness.agent.reconcile(self._level())
        except Crashed:
            await self._end_life()

    async def _until(self, what: Callable[[], bool]) -> None:
        """Keep running, from crash to crash, until ``what()`` is true."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not what():
                if self.crash.dead:
                    await self._end_life()
                await asyncio.sleep(0.005)

    # --- Steps ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.ever) < len(JOBS))
    @rule()
    def a_job_comes(self) -> None:
        number = len(self.ever) + 1
        self.ever.add(number)
        script = f"echo ran >> {self.top}/ledger-{number}; echo $$ > {self.top}/pid-{number}; "
        wait = f"until [ -e {self.top}/go-{number} ]; do sleep 0.01; done; "
        self.wanted[number] = assigned(number, f"{script}{wait}seq 300", ordinal=number)
        self.loop.run_until_complete(self._tell())

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def a_job_may_end(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.wanted)))
        (self.top / f"go-{number}").touch()

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def a_job_is_to_stop(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.wanted)))
        self.wanted[number] = attrs.evolve(self.wanted[number], stop=True)
        self.loop.run_until_complete(self._tell())

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def a_job_is_not_wanted_any_more(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.wanted)))
        del self.wanted[number]
        self.unwanted.add(number)
        self.loop.run_until_complete(self._tell())

    @rule(changes=st.integers(1, 70))
    def the_agent_is_to_die(self, changes: int) -> None:
        if not self.crash.dead:
            self.crash.at = len(self.crash.done) + changes

    @rule(changes=st.integers(1, 16))
    def the_next_supervisor_is_to_die(self, changes: int) -> None:
        (self.top / crash.ORDER).write_text(str(changes))

    @rule()
    def the_spawner_dies(self) -> None:
        spawner = self.harness.agent._driver.__dict__["_spawner"]
        if spawner is not None and spawner._process is not None:
            os.kill(spawner._process.pid, signal.SIGKILL)

    @rule()
    def the_agent_dies_now(self) -> None:
        self.loop.run_until_complete(self._end_life())

    @rule()
    def all_are_seen_to_have_begun(self) -> None:
        store = self.harness.store
        begun = lambda number: store.started(number) or store.finished(number)  # noqa: E731
        self.loop.run_until_complete(self._until(lambda: all(map(begun, self.wanted))))
        self.loop.run_until_complete(self._tell())

    # --- Invariants -------------------------------------------------------------------------

    @invariant()
    def each_has_begun_once_at_most(self) -> None:
        for number in self.ever:
            assert self._ran(number) in ("", "ran\n")

    def _ran(self, number: int) -> str:
        ledger = self.top / f"ledger-{number}"
        return ledger.read_text() if ledger.exists() else ""

    def teardown(self) -> None:
        try:
            self.loop.run_until_complete(self._finish())
            self.each_has_begun_once_at_most()
        finally:
            self.armed.close()
            self.loop.run_until_complete(self.harness.agent.close())
            self.loop.close()
            shutil.rmtree(self.top, ignore_errors=True)

    async def _finish(self) -> None:
        for number in self.ever:
            (self.top / f"go-{number}").touch()
        await self._tell()
        store = self.harness.store
        await self._until(lambda: all(store.finished(number) for number in self.wanted))
        await self._tell()
        await self._until(lambda: not list(self.harness.folder.glob("w*-*-*")))
        for number in self.ever:
            finished = store.finished(number)
            if finished is not None and finished.result is Result.PASSED:
                assert self._ran(number) == "ran\n"
                assert self.harness.log(number) == OUTPUT


def test_each_job_runs_once_and_its_end_is_known_at_every_point_of_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forking, "BOOT", crash.BOOT)
    monkeypatch.setattr(attempt_watcher, "ASK_AGAIN_SECONDS", 0.05)
    run_state_machine_as_test(
        AgentMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

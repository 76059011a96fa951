"""What a worker does about attempts that do not go on: by a held clock, without any process."""

import asyncio
import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from boxsched.worker.agent import attempt_watcher
from boxsched.worker.agent.attempt import GONE, LOST, LOST_BY_RESTART, Phase
from boxsched.worker.agent.attempt_watcher import (
    ASK_AGAIN_SECONDS,
    ASK_TIMES,
    OVERDUE_SECONDS,
    AttemptWatcher,
)
from boxsched.worker.supervisor.safe_files import Damaged

GRACE = 10.0


class FakeAttempt(SimpleNamespace):
    """An attempt whose files are not read; it records what is done to it."""

    def __init__(self, **values: Any) -> None:
        started = {
            "name": "w1-1-1", "guarded": True, "phase": Phase.RUNNING, "damage": None,
            "grace": None, "ends_by": None, "gone": False, "asked_at": 100.0, "asked_times": 1,
            "process": None, "watched": False, "running": None, "error": None, "done": [],
            "record": SimpleNamespace(boot="boot", cgroup=None),
        }  # fmt: skip
        super().__init__(**started | values)

    def look(self) -> None:
        self.done.append("look")
        if self.error is not None:
            raise self.error

    def kill_supervisor(self) -> None:
        self.done.append("kill")

    def void(self, ended: Any) -> bool:
        self.done.append(ended)
        return True

    def end_as_lost(self, reason: str, at: float) -> bool:
        self.done.append((reason, at))
        self.phase = Phase.ENDED
        return True

    def close(self) -> None:
        self.done.append("close")

    def forget_process(self) -> None:
        self.done.append("forget")
        self.process = None


class Watch:
    """A watcher at a held time of the event loop's clock; the wall clock says 5."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[Any] = []
        self.woken = 0
        self.read: dict[int, Callable[..., None]] = {}
        self.watcher = AttemptWatcher("boot", lambda: 5.0, ask=self.ask, wake=self.wake)
        loop: Any = SimpleNamespace(
            time=lambda: self.now,
            add_reader=lambda fd, call, one: self.read.__setitem__(fd, lambda: call(one)),
            remove_reader=self.read.pop,
        )
        self.watcher._loop = loop

    def ask(self, attempt: Any) -> None:
        self.asked.append(self.now)
        attempt.asked_at, attempt.asked_times = self.now, attempt.asked_times + 1

    def wake(self) -> None:
        self.woken += 1

    async def look(self, attempt: Any, at: float | None = None) -> list[Any]:
        """Return what the look did, besides reading the files."""
        self.now = self.now if at is None else at
        attempt.done.clear()
        await self.watcher.look(attempt)
        return [one for one in attempt.done if one != "look"]


@pytest.fixture
async def watch() -> Watch:
    return Watch()


async def test_a_supervisor_that_does_not_end_its_job_is_killed(watch: Watch) -> None:
    """Some time after the grace of the stop, and again as often as needed."""
    one = FakeAttempt(grace=GRACE)
    overdue = 100.0 + GRACE + OVERDUE_SECONDS
    assert await watch.look(one, 100.0) == []
    assert await watch.look(one, overdue - 0.01) == []
    assert await watch.look(one, overdue) == ["kill"]
    assert await watch.look(one, overdue + OVERDUE_SECONDS - 0.01) == []
    assert await watch.look(one, overdue + OVERDUE_SECONDS) == ["kill"]


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.RUNNING}, key=str))
async def test_only_a_running_job_that_was_stopped_has_an_overdue_supervisor(
    watch: Watch, phase: Phase
) -> None:
    for one in (FakeAttempt(grace=GRACE, phase=phase), FakeAttempt()):
        for at in (100.0, 1_000.0, 2_000.0):
            assert "kill" not in await watch.look(one, at)


async def test_a_supervisor_is_asked_for_a_few_times_and_then_the_job_is_given_back(
    watch: Watch,
) -> None:
    one = FakeAttempt(phase=Phase.ASKED)
    asked = []
    for _ in range(ASK_TIMES - 1):
        due = one.asked_at + ASK_AGAIN_SECONDS
        assert await watch.look(one, due - 0.01) == []
        assert await watch.look(one, due) == []
        asked.append(due)
    assert watch.asked == asked
    assert await watch.look(one, one.asked_at + ASK_AGAIN_SECONDS - 0.01) == []
    (ended,) = await watch.look(one, one.asked_at + ASK_AGAIN_SECONDS)
    assert (ended.result, ended.not_begun, ended.at) == ("failed", True, 5.0)
    assert (ended.reason, ended.lost) == ("its supervisor could not be started", False)
    assert watch.asked == asked
    for phase in set(Phase) - {Phase.ASKED}:
        assert await watch.look(FakeAttempt(phase=phase), 1_000.0) == []
    assert watch.asked == asked


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"gone": True}, LOST),
        ({"gone": True, "record": SimpleNamespace(boot="before", cgroup=None)}, LOST_BY_RESTART),
        ({"error": Damaged("x is odd")}, "lost: x is odd"),
        ({"error": FileNotFoundError(2, "no")}, f"lost: {GONE}"),
        ({"error": NotADirectoryError(20, "no")}, f"lost: {GONE}"),
        ({"gone": True, "error": Damaged("x is odd")}, "lost: x is odd"),
    ],
)
async def test_an_attempt_without_a_supervisor_or_with_damaged_files_is_lost(
    watch: Watch, values: dict[str, Any], reason: str
) -> None:
    one = FakeAttempt(**values)
    assert await watch.look(one) == [(reason, 5.0)]
    assert one.phase is Phase.ENDED
    one.error = None
    assert await watch.look(one) == [], "once"


async def test_an_attempt_whose_supervisor_ended_is_lost_only_if_its_files_could_be_read(
    watch: Watch,
) -> None:
    """Its supervisor may have left a result."""
    one = FakeAttempt(gone=True, error=OSError(errno.EIO, "no"))
    assert await watch.look(one) == []
    assert watch.watcher.troubled
    one.error = None
    assert await watch.look(one) == [(LOST, 5.0)]


async def test_only_a_lack_of_descriptors_closes_the_attempts_own(watch: Watch) -> None:
    for number, done in ((errno.EMFILE, ["close"]), (errno.ENFILE, ["close"]), (errno.EIO, [])):
        one = FakeAttempt(error=OSError(number, "no"))
        assert await watch.look(one) == done
        assert one.damage is None
        assert one.phase is Phase.RUNNING


async def test_damage_after_the_end_changes_nothing(watch: Watch) -> None:
    for phase in (Phase.ENDED, Phase.REPORTED):
        one = FakeAttempt(phase=phase, error=Damaged("x"))
        assert await watch.look(one) == []
        assert not watch.watcher.troubled


async def test_the_end_of_a_supervisors_process_wakes_the_agent_once(watch: Watch) -> None:
    one = FakeAttempt(process=9)
    await watch.look(one)
    await watch.look(one)
    assert one.watched and list(watch.read) == [9]
    watch.read[9]()
    assert (watch.read, watch.woken, one.process, one.watched) == ({}, 1, None, False)
    await watch.look(one)
    assert (watch.read, one.watched) == ({}, False), "there is no process to watch"
    one = FakeAttempt(process=9)
    await watch.look(one)
    one.phase = Phase.ENDED
    await watch.look(one)
    assert (watch.read, one.watched) == ({}, False)
    watch.watcher.unwatch(one)


async def test_the_files_of_a_guarded_attempt_are_read_in_the_loop(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
        threads.append(work.__name__)
        return work(*arguments)

    monkeypatch.setattr(attempt_watcher, "in_thread", in_thread)
    await watch.look(FakeAttempt())
    assert threads == []
    await watch.look(FakeAttempt(guarded=False))
    assert threads == ["look"]


async def test_each_problem_of_an_attempt_is_logged_once(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> int:
        count = len(caplog.records)
        caplog.clear()
        return count

    error = OSError(errno.EIO, "no")
    for _ in range(2):
        watch.watcher.trouble("w1-1-1", error)
    assert said() == 1
    watch.watcher.trouble("w1-1-1", OSError(errno.ENOSPC, "no"))
    watch.watcher.trouble("w2-1-1", error)
    assert said() == 2
    watch.watcher.forget("w1-1-1")
    watch.watcher.trouble("w1-1-1", error)
    watch.watcher.trouble("w2-1-1", error)
    assert said() == 1


async def test_jobs_outside_their_cgroups_are_logged_once(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    def job(cgroup: str | None, contained: bool) -> FakeAttempt:
        record = SimpleNamespace(boot="boot", cgroup=cgroup)
        return FakeAttempt(record=record, running=SimpleNamespace(contained=contained))

    for one in (job(None, False), job("/c", True), FakeAttempt()):
        await watch.look(one)
    assert not caplog.records
    for _ in range(2):
        await watch.look(job("/c", False))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    await asyncio.sleep(0)

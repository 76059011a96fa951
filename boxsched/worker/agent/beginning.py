"""Turn new assignments into attempts, or answer those that cannot run."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment
from boxsched.states import Result
from boxsched.worker.agent.answers import Answers
from boxsched.worker.agent.attempt import UNENDED, Attempt
from boxsched.worker.agent.attempt_watcher import AttemptWatcher
from boxsched.worker.agent.occupancy import Occupancy
from boxsched.worker.agent.plan import Worksite, attempt_name
from boxsched.worker.agent.preparing import CannotBegin, end_unknown, prepare
from boxsched.worker.supervisor.trouble import described

Key = tuple[JobId, int]  # a job and its lease token


class Beginning:
    """Begins attempts. ``wake`` is called after each answer that was added to ``answers``."""

    def __init__(self, answers: Answers, wake: Callable[[], None]) -> None:
        self._answers = answers
        self._wake = wake
        self._occupancy = Occupancy()
        self.quarantined: Mapping[str, str] = {}  # names of damaged attempts, and the reason

    def note(self, desired: Mapping[Key, Assignment], attempts: Mapping[Key, Attempt]) -> None:
        """Forget the answers to jobs that are no longer desired. Remember the Boxes."""
        self._answers.keep(desired)
        self._occupancy.note(desired, attempts)

    def startable(
        self, desired: Mapping[Key, Assignment], attempts: Mapping[Key, Attempt]
    ) -> Sequence[Assignment]:
        """Return the assignments to prepare now, in the order of their lease tokens.

        Answers those that cannot run any more. An attempt begins only after two kinds of attempts
        have ended here: earlier ones of its job, also ghosts, and those on its Box that are no
        longer desired and are no ghosts.
        """
        missing = [
            wanted
            for key, wanted in desired.items()
            if key not in attempts and key not in self._answers
        ]
        missing.sort(key=lambda wanted: (wanted.lease_token, wanted.job))
        return list(self._unanswered(missing, desired, attempts))

    def _unanswered(
        self,
        missing: Sequence[Assignment],
        desired: Mapping[Key, Assignment],
        attempts: Mapping[Key, Attempt],
    ) -> Iterator[Assignment]:
        taken = {attempt.name for attempt in attempts.values()}
        unended = [key for key, attempt in attempts.items() if attempt.phase in UNENDED]
        parked = [key for key, attempt in attempts.items() if attempt.parked]
        running = {job for job, _ in (*unended, *parked)}
        ending = [key for key in unended if key not in desired and key not in parked]
        for wanted in missing:
            name = attempt_name(wanted)
            if wanted.stop and not wanted.started:
                self._answer(wanted, Result.STOPPED, "stopped")
            elif name in self.quarantined:
                self._answer(wanted, Result.FAILED, f"lost: {self.quarantined[name]}")
            elif (
                name not in taken
                and wanted.job not in running
                and not self._occupancy.held_up(wanted, ending)
            ):
                yield wanted

    async def begin(
        self,
        wanted: Assignment,
        site: Worksite,
        watcher: AttemptWatcher,
        lost_after: float | None,
    ) -> Attempt | None:
        """Return the prepared attempt; None if the job was answered or is tried again later."""
        outcome: Attempt | str
        try:
            if wanted.started:
                outcome = await asyncio.to_thread(end_unknown, wanted, site)
            else:
                outcome = await asyncio.to_thread(prepare, wanted, site, lost_after)
        except OSError as error:
            watcher.trouble(attempt_name(wanted), error)
            if self._answers.gives_up(wanted, asyncio.get_running_loop().time()):
                problem = described(error, "cannot prepare jobs")
                self._answer(wanted, Result.FAILED, problem, not_begun=True)
            return None
        except CannotBegin as cannot:
            self._answer(wanted, Result.FAILED, str(cannot), not_begun=True)
            return None
        if isinstance(outcome, Attempt):
            return outcome
        self._answer(wanted, Result.FAILED, outcome)
        return None

    def _answer(
        self, wanted: Assignment, result: Result, reason: str, *, not_begun: bool = False
    ) -> None:
        self._answers.add(wanted, result, reason, not_begun=not_begun)
        self._wake()

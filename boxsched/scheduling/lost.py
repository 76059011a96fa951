"""Jobs that are to be given again: their workers are lost, and they come before all that waits."""

from collections.abc import Iterable, Mapping

from boxsched.model import BoxId, WorkloadId
from boxsched.scheduling.boxes import Box
from boxsched.scheduling.interface import BoxFreed, Decision, GivenAgain
from boxsched.scheduling.usage import Usage
from boxsched.scheduling.workload import RunningGroup, Workload, number_given_again


class LostJobs:
    """Each keeps its old Box, which counts as in use, until it has another."""

    def __init__(self) -> None:
        # In order, and whether it has ended where it was.
        self._jobs: dict[tuple[WorkloadId, int], bool] = {}

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, workload: Workload, jobs: Iterable[int], *, ended: bool) -> None:
        if workload.run is not None:
            for job in jobs:
                if workload.run.boxes[job] is not None:
                    self._jobs[workload.id, job] = ended

    def forget(self, workload: WorkloadId, jobs: Iterable[int]) -> None:
        """They run after all, have ended, or are to be stopped."""
        if self._jobs:
            for job in jobs:
                self._jobs.pop((workload, job), None)

    def give_again(
        self,
        workloads: Mapping[WorkloadId, Workload],
        boxes: dict[BoxId, Box],
        usage: Usage,
        now: float,
        decisions: list[Decision],
    ) -> None:
        """Each takes the first free Box of its type, and the one it had is given back; or that very
        one, where nothing runs on it any more. Its running time counts from ``now``: so it does for
        the job's time limit, where it runs."""
        for (id_, job), ended in list(self._jobs.items()):
            workload = workloads[id_]
            run = workload.run
            assert run is not None
            old = run.boxes[job]
            assert old is not None
            pool = old.pool
            if not pool.free:
                if ended and not (old.retired or old.away):
                    del self._jobs[id_, job]
                    usage.leave(old)
                    _start(usage, workload, job, old, now)
                    decisions.append(GivenAgain(id_, job, old.id))
                continue
            new = pool.first_free()
            pool.occupy(new)
            usage.leave(old)
            _start(usage, workload, job, new, now)
            run.boxes[job] = new
            del self._jobs[id_, job]
            gone = pool.give_back(old, workload.project.id, workload.branch)
            if gone:
                del boxes[old.id]
            decisions.append(BoxFreed(old.id, gone))
            decisions.append(GivenAgain(id_, job, new.id))

    def items(self) -> Iterable[tuple[tuple[WorkloadId, int], bool]]:
        return self._jobs.items()


def _start(usage: Usage, workload: Workload, job: int, box: Box, now: float) -> None:
    """The job starts anew on this Box, in a group of its own."""
    ask = workload.ask
    asked = ask.groups[ask.group_of[job]]
    box.group = RunningGroup(now, asked, workload, number_given_again(ask, job), 1, 1)
    usage.add(box.group)

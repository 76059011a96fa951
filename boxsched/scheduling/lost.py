"""Jobs whose workers are lost: they get other Boxes before any waiting workload does."""

from collections.abc import Iterable, Mapping

from boxsched.model import BoxId, WorkloadId
from boxsched.scheduling.boxes import Box
from boxsched.scheduling.interface import BoxFreed, Decision, GivenAgain
from boxsched.scheduling.usage import Usage
from boxsched.scheduling.workload import RunningGroup, Workload, number_given_again


class LostJobs:
    """The lost jobs, in order. Until a job has another Box, its old one counts as in use."""

    def __init__(self) -> None:
        # The value: whether nothing runs on the old Box any more.
        self._jobs: dict[tuple[WorkloadId, int], bool] = {}

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, workload: Workload, jobs: Iterable[int], *, ended: bool) -> None:
        if workload.run is not None:
            for job in jobs:
                if workload.run.boxes[job] is not None:
                    self._jobs[workload.id, job] = ended

    def forget(self, workload: WorkloadId, jobs: Iterable[int]) -> None:
        """Forget these jobs, which run after all, have ended, or are being stopped."""
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
        """Give each lost job the free Box of its type that has been free longest.

        The job's old Box becomes free. If no Box is free and nothing runs on the old one any more,
        the job gets its old Box again. Its running time and its time limit count from ``now``.
        """
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
    """Start the job again on this Box, in a separate group."""
    ask = workload.ask
    asked = ask.groups[ask.group_of[job]]
    box.group = RunningGroup(now, asked, workload, number_given_again(ask, job), 1, 1)
    usage.add(box.group)

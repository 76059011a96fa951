"""The unfinished workloads, the Boxes that their projects use, and what their jobs ask for."""

from boxsched.model import ProjectId, WorkloadId, queue_key
from boxsched.scheduling.box_types import Fleet
from boxsched.scheduling.interface import JobAsk, QueueRules, Submit
from boxsched.scheduling.workload import Ask, ProjectUse, Workload, ask_for


class Register:
    """Keeps projects and asks only while a workload uses them; a project with a limit always."""

    def __init__(self, rules: QueueRules, fleet: Fleet) -> None:
        self.workloads: dict[WorkloadId, Workload] = {}
        self.projects: dict[ProjectId, ProjectUse] = {}
        self._rules = rules
        self._fleet = fleet
        self._asks: dict[tuple[JobAsk, ...], Ask] = {}

    def enter(self, event: Submit) -> Workload:
        project = self.project(event.project)
        project.unfinished += 1
        ask = self._ask(event.jobs)
        workload = Workload(
            event.id, event.kind, project, event.branch, ask, None,
            event.fail_fast, event.created_at, event.priority, automatic=event.automatic,
        )  # fmt: skip
        self.place(workload)
        assert event.id not in self.workloads
        self.workloads[event.id] = workload
        return workload

    def place(self, workload: Workload) -> None:
        """Set the workload's place in the queue order from its priority. It must not be in the
        queue.
        """
        priority, created_at = workload.priority, workload.created_at
        key = queue_key(priority, created_at, workload.id, self._rules.priority_aging)
        workload.entry = (*key, workload)

    def plan(self, workload: Workload, jobs: tuple[JobAsk, ...]) -> None:
        """Set the jobs of a workload that was registered without them."""
        before, workload.ask = workload.ask, self._ask(jobs)
        self._leave(before)

    def strike(self, workload: Workload) -> None:
        """Forget a finished workload."""
        del self.workloads[workload.id]
        workload.entry = None
        project = workload.project
        self._leave(workload.ask)
        project.unfinished -= 1
        self.release(project)

    def project(self, project: ProjectId) -> ProjectUse:
        use = self.projects.get(project)
        if use is None:
            use = self.projects[project] = ProjectUse(project)
        return use

    def release(self, project: ProjectUse) -> None:
        """Forget the project if it has no limit and no unfinished workload."""
        if not project.unfinished and project.limit is None:
            del self.projects[project.id]

    def _ask(self, jobs: tuple[JobAsk, ...]) -> Ask:
        ask = self._asks.get(jobs)
        if ask is None:
            for job in jobs:
                self._fleet.pool(job.box_type)
            ask = self._asks[jobs] = ask_for(jobs, self._fleet.pools)
            for pool, _ in ask.needs:
                pool.asks += 1
        ask.users += 1
        return ask

    def _leave(self, ask: Ask) -> None:
        """Count one workload less for this ask; forget the ask after the last one."""
        ask.users -= 1
        if ask.users:
            return
        del self._asks[ask.jobs]
        for pool, _ in ask.needs:
            pool.asks -= 1
            if not pool.asks and not pool.boxes and not pool.wanted:
                del self._fleet.pools[pool.box_type]  # a type that was only asked for

    def check(self) -> None:
        """Raise AssertionError if the counts differ from the workloads."""
        for project in self.projects.values():
            assert project.unfinished or project.limit is not None
            mine = [w for w in self.workloads.values() if w.project is project]
            assert project.unfinished == len(mine)
            assert project.used == sum(w.run.live for w in mine if w.run is not None)
        assert sum(ask.users for ask in self._asks.values()) == len(self.workloads)

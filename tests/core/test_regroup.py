"""A project's limit changes while many workloads wait: the queue is as if the limit had always been
so."""

from hypothesis import given
from hypothesis import strategies as st

from boxsched.model import Cancellation, Kind, ProjectId, WorkloadId
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.interface import BoxAdded, ProjectLimited, Submit

ASKS = tuple(
    (JobAsk("default", seconds, 60.0),) * jobs for seconds in (5.0, 9.0) for jobs in (1, 2)
)
Waiting = list[tuple[int, int, int]]  # project, priority, ask
Limits = list[tuple[int, int | None]]  # project, its new limit


def filled(waiting: Waiting, limits: Limits) -> Scheduler:
    core = Scheduler(QueueRules())
    for project, limit in limits:
        core.apply(ProjectLimited(ProjectId(project), limit), 0.0)
    for n, (project, priority, ask) in enumerate(waiting, 1):
        event = Submit(
            WorkloadId(n), Kind.BUILD, ProjectId(project), f"b{n}", n, priority, 0.0, ASKS[ask],
            Cancellation.NONE,
        )  # fmt: skip
        core.apply(event, 0.0)
    core.settle(0.0)  # there is no Box yet, so all wait
    return core


@given(
    waiting=st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 3)), max_size=30
    ),
    limits=st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(2, 4)), max_size=6),
)
def test_the_queue_is_as_if_the_limits_had_always_been_so(waiting: Waiting, limits: Limits) -> None:
    changed, fresh = filled(waiting, []), filled(waiting, limits)
    for project, limit in limits:
        changed.apply(ProjectLimited(ProjectId(project), limit), 0.0)
        changed.check()
    assert len(changed.queue) == len(fresh.queue)
    order = [[w.id for w in core.queue.in_order(100)] for core in (changed, fresh)]
    assert order[0] == order[1]
    for core in (changed, fresh):
        for box in range(6):
            core.apply(BoxAdded(box, "default", None, None), 1.0)  # type: ignore[arg-type]
    assert repr(changed.settle(1.0)) == repr(fresh.settle(1.0))
    changed.check()

"""Which file is read next: turns of projects, and of projects whose repository does not answer."""

import pytest

from boxsched.automation import backlog
from boxsched.automation.backlog import (
    AT_ONCE,
    AT_ONCE_OF_A_PROJECT,
    AT_ONCE_TROUBLED,
    NONE,
    RESTING_OF_A_PROJECT,
    Backlog,
    Reading,
)
from boxsched.model import ProjectId, WorkloadId


def reading(id_: int, project: int) -> Reading:
    return Reading(WorkloadId(id_), ProjectId(project), iter(()))


def troubled(lines: Backlog, project: int) -> Reading:
    """A build of the project that rests until the time 10."""
    one = reading(1_000 * project, project)
    lines.begin(one)
    lines.rest(one, 10.0, troubled=True)
    return one


def test_a_project_gets_only_some_of_the_turns() -> None:
    lines = Backlog()
    for project in range(1, 1 + AT_ONCE // AT_ONCE_OF_A_PROJECT):
        for n in range(AT_ONCE_OF_A_PROJECT):
            assert lines.has_place(ProjectId(project))
            lines.begin(reading(100 * project + n, project))
        assert not lines.has_place(ProjectId(project))
    assert lines.is_full
    assert not lines.has_place(ProjectId(99))


def test_projects_whose_repositories_do_not_answer_leave_turns_to_others() -> None:
    lines = Backlog()
    projects = range(1, 2 * AT_ONCE)
    for project in projects:
        troubled(lines, project)
    began = 0
    for project in projects:
        if lines.has_place(ProjectId(project)):
            assert lines.due(ProjectId(project), 10.0) is not None
            assert not lines.has_place(ProjectId(project)), "one at a time"
            began += 1
    assert began == AT_ONCE_TROUBLED
    assert lines.has_place(ProjectId(99))


def test_a_build_rests_until_it_is_due_and_later_ones_continue() -> None:
    lines = Backlog()
    project = ProjectId(1)
    one = troubled(lines, project)
    assert lines.due(project, 9.9) is None
    assert (lines.begun(project), lines.busy(project)) == (one.id, {one.id})
    assert lines.may_begin(project)
    assert lines.due(project, 10.0) is one
    assert lines.begun(project) == NONE, "another look for those that were seen late"
    lines.skip(project, one.id)
    assert lines.begun(project) == one.id
    lines.done(one, troubled=False)
    assert (lines.begun(project), lines.busy(project)) == (NONE, set())


def test_many_resting_builds_do_not_block_other_builds_of_their_project() -> None:
    lines = Backlog()
    project = ProjectId(1)
    ones = [reading(n, project) for n in range(1, 1 + RESTING_OF_A_PROJECT)]
    for one in ones:
        assert lines.may_begin(project)
        lines.begin(one)
        lines.rest(one, float(one.id), troubled=True)
    assert not lines.may_begin(project)
    assert lines.may_begin(ProjectId(2))
    assert lines.due(project, 1_000.0) is ones[0], "the one that has been due for longest"
    assert lines.may_begin(project)


def test_a_repository_that_answers_again_has_its_turns_again() -> None:
    lines = Backlog()
    project = ProjectId(1)
    one = troubled(lines, project)
    assert lines.due(project, 10.0) is one
    lines.done(one, troubled=True)
    two = reading(2, project)
    lines.begin(two)
    assert not lines.has_place(project), "it is remembered"
    lines.done(two, troubled=False)
    lines.begin(reading(3, project))
    assert lines.has_place(project)


def test_resting_builds_are_forgotten_when_another_node_leads() -> None:
    lines = Backlog()
    project = ProjectId(1)
    troubled(lines, project)
    busy = reading(7, 2)
    lines.begin(busy)
    lines.clear()
    assert lines.busy(project) == set()
    assert lines.busy(ProjectId(2)) == {busy.id}
    lines.done(busy, troubled=False)


def test_a_limited_number_of_projects_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backlog.TROUBLED_AT_MOST == 10_000
    monkeypatch.setattr(backlog, "TROUBLED_AT_MOST", 3)
    lines = Backlog()
    for project in range(1, 6):
        one = reading(project, project)
        lines.begin(one)
        lines.done(one, troubled=True)
    for project in range(1, 6):
        lines.begin(reading(project, project))
    assert [lines.has_place(ProjectId(project)) for project in range(1, 6)] == [
        True, True, False, False, False,
    ]  # fmt: skip

"""A project with the maximum of branch patterns: compiled once, and not on the event loop."""

import asyncio
import threading

import pytest

from boxsched.api.messages.requests import ProjectSettings, Rule
from boxsched.api.submitting import branch_patterns
from boxsched.api.submitting.branch_patterns import BranchGlobs, Compiler
from boxsched.globs import Automaton
from boxsched.model import MAX_GLOB_CHARACTERS, Cancellation
from tests.service.running_service import RunningService, job

LARGE = [*(f"[ab]{n:030}*" for n in range(450)), "a*"]


def rule(pattern: str) -> Rule:
    return Rule(pattern, Cancellation.ALL)


@pytest.fixture
def compiled_in(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Record the threads in which long patterns are compiled."""
    threads: list[threading.Thread] = []
    begin = Automaton.__init__

    def noted(self: Automaton, patterns: list[str]) -> None:
        if sum(map(len, patterns)) > branch_patterns.INLINE_CHARACTERS:
            threads.append(threading.current_thread())
        begin(self, patterns)

    monkeypatch.setattr(Automaton, "__init__", noted)
    return threads


async def test_builds_of_a_project_with_many_patterns_compile_them_once_in_a_thread(
    service: RunningService, compiled_in: list[threading.Thread]
) -> None:
    assert sum(map(len, LARGE)) <= MAX_GLOB_CHARACTERS
    await service.project(jobs=[job()], priority_branches=LARGE)
    built = await asyncio.gather(*(service.build(branch=f"a{n}") for n in range(20)))
    assert {build["priority"] for build in built} == {70}
    assert (await service.build(branch="zzz"))["priority"] == 50
    # Its settings change, so they are read again; the patterns are the same.
    await service.project(jobs=[job()], priority_branches=LARGE, max_boxes=7)
    assert (await service.build(branch="a"))["priority"] == 70
    assert len(compiled_in) == 1
    assert threading.main_thread() not in compiled_in


async def test_the_latest_compiled_patterns_are_kept(compiled_in: list[threading.Thread]) -> None:
    compiler = Compiler()
    several = [
        ProjectSettings(cancellation=tuple([rule(f"{n}-{one}") for one in LARGE]))
        for n in range(branch_patterns.COMPILED_KEPT + 1)
    ]
    first = [await compiler.compiled(one) for one in several]
    assert await compiler.compiled(several[-1]) is first[-1]
    assert await compiler.compiled(several[0]) is not first[0]
    assert len(compiler._kept) == branch_patterns.COMPILED_KEPT
    assert threading.main_thread() not in compiled_in


async def test_every_list_of_patterns_counts() -> None:
    settings = ProjectSettings(
        priority_branches=("a*", "b"),
        cancellation=(rule("c?"),),
        fail_fast=("d",),  # type: ignore[arg-type]
    )
    globs = BranchGlobs.of(settings)
    assert globs.priority.first_match("b") == 1
    assert globs.cancellation.first_match("cc") == 0
    assert isinstance(globs.fail_fast, Automaton)
    assert globs.fail_fast.first_match("d") == 0
    assert globs.characters == 6
    assert globs.size > 0

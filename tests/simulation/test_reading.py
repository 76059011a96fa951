"""Every error in a scenario is refused with its position."""

import json

import pytest

from boxsched.simulation import BadInput, parse

NAN, HUGE = float("nan"), 10**400


def scenario(**more):
    return {"boxes": 2, "events": [event()], **more}


def event(**more):
    given = {"at": 0, "submit": "build", "id": "b1", "project": "web", "branch": "x", "jobs": [1]}
    return {k: v for k, v in (given | more).items() if v is not ...}


def events(*given):
    return scenario(events=list(given))


def job(given):
    return events(event(jobs=[1, given]))


def project(**given):
    return scenario(projects=[{"name": "web", **given}])


def place(given):
    with pytest.raises(BadInput) as refused:
        parse(given if isinstance(given, bytes) else json.dumps(given).encode())
    text = str(refused.value)
    assert text.isprintable()
    assert text.isascii()
    assert text.startswith(f"{refused.value.place}: ")
    return refused.value.place


TOP = [
    ([], "scenario"),
    (None, "scenario"),
    ({"events": []}, "boxes"),
    ({"boxes": 1}, "events"),
    (scenario(boxes=True), "boxes"),
    (scenario(boxes=2.0), "boxes"),
    (scenario(boxes=-1), "boxes"),
    (scenario(boxes="2"), "boxes"),
    (scenario(boxes=None), "boxes"),
    (scenario(boxes=HUGE), "boxes"),
    (scenario(boxes={}), "boxes"),
    (scenario(boxes={"linux": -1}), "boxes.linux"),
    (scenario(boxes={"linux": True}), "boxes.linux"),
    (scenario(boxes={"a b": 1.5}), 'boxes."a b"'),
    (scenario(policy="fifo"), "policy"),
    (scenario(policy=None), "policy"),
    (scenario(policy=["strict"]), "policy"),
    (scenario(priority_aging=0), "priority_aging"),
    (scenario(priority_aging=-1), "priority_aging"),
    (scenario(priority_aging=True), "priority_aging"),
    (scenario(max_boxes=-1), "max_boxes"),
    (scenario(max_boxes=1.5), "max_boxes"),
    (scenario(max_boxes=False), "max_boxes"),
    (scenario(polcy="strict"), "polcy"),
    (scenario(events={}), "events"),
    (scenario(events=None), "events"),
    (scenario(**{"x\ny\x1b": 1}), r'"x\ny\u001b"'),
]

HALF = "a\ud800"  # half of a surrogate pair: valid in JSON, but not in a file or on a terminal

NO_TEXT = [
    (project(name=HALF), "projects[0].name"),
    (project(priority_branches=["a", HALF]), "projects[0].priority_branches[1]"),
    (project(fail_fast=[HALF]), "projects[0].fail_fast[0]"),
    (project(cancellation=[[HALF, "all"]]), "projects[0].cancellation[0][0]"),
    (scenario(boxes={HALF: 1}), 'boxes."a\\ud800"'),
    (events(event(id=HALF)), "events[0].id"),
    (events(event(project=HALF)), "events[0].project"),
    (events(event(branch=HALF)), "events[0].branch"),
    (events(event(branch=..., tag=HALF)), "events[0].tag"),
    (events(event(submit="deploy", branch=..., server=HALF)), "events[0].server"),
    (events(event(), {"at": 0, "stop": HALF}), "events[1].stop"),
    (job({"seconds": 1, "box_type": HALF}), "events[0].jobs[1].box_type"),
]

PROJECTS = [
    (project(priority_branches=["*?" * 100] * 82), "projects[0].priority_branches"),
    (
        project(fail_fast=["a" * 16_000], cancellation=[["b" * 400, "all"]]),
        "projects[0].cancellation",
    ),
    (scenario(projects={}), "projects"),
    (scenario(projects=["web"]), "projects[0]"),
    (scenario(projects=[{}]), "projects[0].name"),
    (project(name=7), "projects[0].name"),
    (project(name=""), "projects[0].name"),
    (scenario(projects=[{"name": "a"}, {"name": "a"}]), "projects[1].name"),
    (project(priority_branches="main"), "projects[0].priority_branches"),
    (project(priority_branches=["a", 1]), "projects[0].priority_branches[1]"),
    (project(max_boxes="3"), "projects[0].max_boxes"),
    (project(fail_fast="yes"), "projects[0].fail_fast"),
    (project(fail_fast=1), "projects[0].fail_fast"),
    (project(fail_fast=None), "projects[0].fail_fast"),
    (project(cancellation={}), "projects[0].cancellation"),
    (project(cancellation=[["*", "all"], ["*"]]), "projects[0].cancellation[1]"),
    (project(cancellation=[["*", "all", "x"]]), "projects[0].cancellation[0][2]"),
    (project(cancellation=[["*", "all", {}]]), "projects[0].cancellation[0][2].spare_after"),
    (
        project(cancellation=[["*", "all", {"spare_after": 0}]]),
        "projects[0].cancellation[0][2].spare_after",
    ),
    (
        project(cancellation=[["*", "all", {"spare_after": 1, "x": 1}]]),
        "projects[0].cancellation[0][2].x",
    ),
    (project(cancellation=[["*", "all", {"spare_after": 1}, 1]]), "projects[0].cancellation[0]"),
    (project(servers=[]), "projects[0].servers"),
    (project(servers={"a b": 1}), 'projects[0].servers."a b"'),
    (project(servers={"": {}}), 'projects[0].servers.""'),
    (project(servers={"p": {"queue": "first"}}), "projects[0].servers.p.queue"),
    (project(servers={"p": {"guard": True}}), "projects[0].servers.p.guard"),
    (project(cancellation=["ab"]), "projects[0].cancellation[0]"),
    (project(cancellation=[["*", "some"]]), "projects[0].cancellation[0][1]"),
    (project(cancellation=[[1, "all"]]), "projects[0].cancellation[0][0]"),
    (project(colour="red"), "projects[0].colour"),
]

EVENTS = [
    (events(7), "events[0]"),
    (events({"at": 0}), "events[0]"),
    (events({"submit": "build"}), "events[0].at"),
    (events(event(brnch="x")), "events[0].brnch"),
    (events(event(at=True)), "events[0].at"),
    (events(event(at="0")), "events[0].at"),
    (events(event(at=None)), "events[0].at"),
    (events(event(at=HUGE)), "events[0].at"),
    (events(event(at=5), event(at=4, id="b2")), "events[1].at"),
    (events(event(submit="test")), "events[0].submit"),
    (events(event(id=...)), "events[0].id"),
    (events(event(id=7)), "events[0].id"),
    (events(event(id="")), "events[0].id"),
    (events(event(), event()), "events[1].id"),
    (events(event(project=...)), "events[0].project"),
    (events(event(project=None)), "events[0].project"),
    (events(event(branch=...)), "events[0]"),
    (events(event(tag="v1")), "events[0]"),
    (events(event(branch=5)), "events[0].branch"),
    (events(event(branch=..., tag=5)), "events[0].tag"),
    (events(event(server="s")), "events[0].server"),
    (events(event(submit="deploy", branch=...)), "events[0].server"),
    (events(event(submit="deploy", server="s")), "events[0].branch"),
    (events(event(submit="ssh")), "events[0].branch"),
    (events(event(priority=101)), "events[0].priority"),
    (events(event(priority=-1)), "events[0].priority"),
    (events(event(priority=50.0)), "events[0].priority"),
    (events(event(priority=True)), "events[0].priority"),
    (events(event(prio=1)), "events[0].prio"),
    (events(event(stop="b1")), "events[0].stop"),
    (events({"at": 0, "stop": "b1"}, event()), "events[0].stop"),
    (events(event(), {"at": 0, "stop": 1}), "events[1].stop"),
    (events(event(), {"at": 0, "stop": "b1", "id": "b1"}), "events[1].id"),
    (events({"at": 0, "boxes": -1}), "events[0].boxes"),
    (events({"at": 0, "boxes": 1.5}), "events[0].boxes"),
    (events({"at": 0, "boxes": {}}), "events[0].boxes"),
    (events({"at": 0, "boxes": {"mac": 1}}), "events[0].boxes.mac"),
    (events({"at": 0, "boxes": 1, "extra": 2}), "events[0].extra"),
]

JOBS = [
    (events(event(jobs=...)), "events[0].jobs"),
    (events(event(jobs=[])), "events[0].jobs"),
    (events(event(jobs=5)), "events[0].jobs"),
    (job("5"), "events[0].jobs[1]"),
    (job(True), "events[0].jobs[1]"),
    (job(-1), "events[0].jobs[1]"),
    (job(None), "events[0].jobs[1]"),
    (job([1]), "events[0].jobs[1]"),
    (job({}), "events[0].jobs[1].seconds"),
    (job({"seconds": -0.5}), "events[0].jobs[1].seconds"),
    (job({"seconds": HUGE}), "events[0].jobs[1].seconds"),
    (job({"seconds": 1, "expected": -1}), "events[0].jobs[1].expected"),
    (job({"seconds": 1, "expected": False}), "events[0].jobs[1].expected"),
    (job({"seconds": 1, "limit": -1}), "events[0].jobs[1].limit"),
    (job({"seconds": 1, "limit": "1"}), "events[0].jobs[1].limit"),
    (job({"seconds": 9, "limit": 8}), "events[0].jobs[1].limit"),
    (job({"seconds": 1, "expected": 9, "limit": 8}), "events[0].jobs[1].limit"),
    (job({"seconds": 1, "result": "stopped"}), "events[0].jobs[1].result"),
    (job({"seconds": 1, "result": True}), "events[0].jobs[1].result"),
    (job({"seconds": 1, "box_type": "mac"}), "events[0].jobs[1].box_type"),
    (job({"seconds": 1, "box_type": 1}), "events[0].jobs[1].box_type"),
    (job({"seconds": 1, "name": "x"}), "events[0].jobs[1].name"),
]

RAW = [
    (b"", "line 1 column 1"),
    (b'{"boxes": 1,\n "events": [}', "line 2 column 13"),
    (b'{"boxes": 1, "events": []} x', "line 1 column 28"),
    (b'{"boxes": 1, "boxes": 1, "events": []}', "boxes"),
    (b'{"boxes": 1, "events": [], "events": []}', "events"),
    (b'{"boxes": {"a": 1, "a": 2}, "events": []}', "boxes.a"),
    (b'{"boxes": 1, "events": [{"at": 0, "at": 0}]}', "events[0].at"),
    (b'{"boxes": 1, "events": [{"at": NaN}]}', "scenario"),
    (b'{"boxes": 1, "events": [{"at": -Infinity}]}', "scenario"),
    (b'{"boxes": 1, "events": [{"at": 1e999}]}', "events[0].at"),
    (b'{"boxes": 1' + b"0" * 5_000 + b', "events": []}', "scenario"),
    (b"[" * 100_000, "scenario"),
    (b'{"boxes": ' + b"[" * 400 + b"]" * 400 + b', "events": []}', "boxes"),
    (b'{"boxes": 1, "events": "\xff"}', "byte 24"),
]


@pytest.mark.parametrize(("given", "expected"), TOP + NO_TEXT + PROJECTS + EVENTS + JOBS + RAW)
def test_the_position_of_an_error_is_named(given, expected):
    assert place(given) == expected


def test_fields_that_the_docs_show_as_null_may_be_null():
    given = project(max_boxes=None) | {"priority_aging": None, "max_boxes": None}
    parse(json.dumps(given).encode())


def test_an_error_is_explained_in_words():
    with pytest.raises(BadInput, match=r"events\[0\]\.jobs: must contain at least one job"):
        parse(json.dumps(events(event(jobs=[]))).encode())


def test_equal_jobs_share_one_tuple():
    first, second = (e for _, e in parse(json.dumps(
        events(event(jobs=[1, {"seconds": 5, "expected": 1}]), event(id="b2", jobs=[1, 1]))
    ).encode()).events)  # fmt: skip
    assert first.jobs is second.jobs

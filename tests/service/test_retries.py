"""Jobs that are tried again in their Box: their settings, their logs, what is shown of them."""

import pytest

from boxsched.job_files.reading import WrongFile, jobs_of
from boxsched.protocol.retries import Retries
from boxsched.protocol.shards import SHARD
from tests.service.running_service import API, RunningService, job

FLAKY = 'echo "attempt $BOXSCHED_ATTEMPT"; [ $BOXSCHED_ATTEMPT = 3 ] || exit 7'


async def test_a_job_that_passes_only_when_it_is_tried_again_is_flaky(
    executing_service: RunningService,
) -> None:
    service = executing_service
    flaky = job("flaky", FLAKY, show_commands=False, retry={"exit": {"7": 1}, "any": 1})
    await service.project("web", jobs=[flaky, job("steady", "true")])
    made = await service.build()
    assert made["flaky"] is False
    done = await service.finished(made["id"])
    assert (done["result"], done["flaky"]) == ("passed", True)
    assert [(one["attempt"], one["retries"], one["flaky"]) for one in done["jobs"]] == [
        (3, 2, True),
        (1, 0, False),
    ]
    for attempt in (1, 2, 3):
        path = f"{API}/jobs/{made['id']}-1/log?attempt={attempt}"
        assert (await service.call("GET", path)).body == f"attempt {attempt}\n".encode()
    listed = (await service.call("GET", f"{API}/workloads")).json["workloads"]
    assert [one["flaky"] for one in listed] == [True]
    steady = await service.build(jobs=[job("steady", "true")])
    assert (await service.finished(steady["id"]))["flaky"] is False
    rows = (await service.get("/activity"))["finished"]
    assert {one["id"]: one["flaky"] for one in rows} == {made["id"]: True, steady["id"]: False}
    events = await service.node.store.events_after(SHARD, 0, 0, 1_000)
    ends = [event.data for event in events if event.type == "workload.finished"]
    assert [b'"flaky":true' in data for data in ends] == [True, False]
    figures = (await service.call("GET", "/metrics")).body.decode()
    assert "boxsched_jobs_flaky_total 1" in figures
    assert "boxsched_jobs_retried_total 2" in figures
    again = (await service.call("POST", f"{API}/workloads/{made['id']}/rebuild")).json
    assert (await service.finished(again["id"]))["flaky"] is True, "a rebuild has the same retries"


@pytest.mark.parametrize(
    ("retry", "field"),
    [
        ({"exit": {"0": 1}}, "jobs[0].retry.exit"),
        ({"exit": {"256": 1}}, "jobs[0].retry.exit"),
        ({"exit": {"x": 1}}, "jobs[0].retry.exit"),
        ({"exit": {"7": 11}}, "jobs[0].retry.exit"),
        ({"lost": -1}, "jobs[0].retry.lost"),
        ({"any": 11}, "jobs[0].retry.any"),
        ({"sometimes": 1}, "jobs[0].retry"),
        (3, "jobs[0].retry"),
    ],
)
async def test_wrong_retries_are_refused(
    service: RunningService, retry: object, field: str
) -> None:
    answer = await service.project("web", jobs=[job("a", retry=retry)])
    assert answer.status == 422
    assert answer.error["field"].startswith(field)


def test_a_job_file_may_say_retries() -> None:
    text = "jobs: [{name: a, commands: [x], retry: {lost: 1, exit: {137: 2, '2': 1}, any: 3}}]"
    (spec,) = jobs_of(text.encode())
    assert spec.retry == Retries(1, ((2, 1), (137, 2)), 3)
    (none,) = jobs_of(b"jobs: [{name: a, commands: [x], retry: {}}]")
    assert none.retry is None
    with pytest.raises(WrongFile, match=r"retry"):
        jobs_of(b"jobs: [{name: a, commands: [x], retry: {exit: {1.5: 1}}}]")

"""A job's output: read, followed, whatever bytes are in it."""

import asyncio

import aiohttp
import pytest

from boxsched.api.http.streams import Stream
from boxsched.api.resources.logs import Logs
from boxsched.client import Client as BoxschedClient
from boxsched.model import JobId
from tests.service.house import API, Answer, House, job

COUNT = "for n in 1 2 3; do echo $n; sleep 0.2; done"


async def log(house: House, job_id: str) -> bytes:
    return (await house.call("GET", f"{API}/jobs/{job_id}/log")).body


async def test_output_is_text_whatever_it_is(running: House) -> None:
    script = "printf '<script>alert(1)</script>\\377\\303\\251\\033]0;x\\007\\n'"
    await running.project("web", jobs=[job("print", script, show_commands=False)])
    made = await running.build()
    await running.finished(made["id"])
    answer = await running.call("GET", f"{API}/jobs/{made['id']}-1/log")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.body.decode() == "<script>alert(1)</script>\ufffdé\x1b]0;x\x07\n"


async def test_a_log_shows_the_commands_unless_they_are_not_to_be_shown(running: House) -> None:
    settings = [job("shown", "echo hi"), job("hidden", "echo hi", show_commands=False)]
    await running.project("web", jobs=settings)
    kept = (await running.call("GET", f"{API}/projects/web")).json["jobs"]
    assert [one["show_commands"] for one in kept] == [True, False]
    made = await running.build()
    again = (await running.call("POST", f"{API}/workloads/{made['id']}/rebuild")).json
    for id_ in (made["id"], again["id"]):
        await running.finished(id_)
        assert await log(running, f"{id_}-1") == b"+ echo hi\nhi\n"
        assert await log(running, f"{id_}-2") == b"hi\n"
    wrong = await running.call(
        "POST", f"{API}/projects/web/builds",
        {"branch": "main", "jobs": [job("x", show_commands="no")]},
    )  # fmt: skip
    assert (wrong.status, wrong.error["field"]) == (422, "jobs[0].show_commands")


async def test_following_ends_with_the_job(running: House) -> None:
    await running.project("web", jobs=[job("count", COUNT, show_commands=False)])
    made = await running.build()
    answer = await running.call("GET", f"{API}/jobs/{made['id']}-1/log?follow=1")
    assert answer.body == b"1\n2\n3\n"
    assert (await running.look(made["id"]))["jobs"][0]["state"] == "finished"
    assert await log(running, f"{made['id']}-1") == b"1\n2\n3\n"


async def test_written_output_is_visible_before_the_end(running: House) -> None:
    await running.project("web", jobs=[job("wait", "echo begun; sleep 60", show_commands=False)])
    made = await running.build()
    async with running.client.get(
        f"{running.url}{API}/jobs/{made['id']}-1/log?follow=1",
        headers={"Authorization": f"Bearer {running.token}"},
    ) as response:
        assert await response.content.readline() == b"begun\n"
        await running.call("POST", f"{API}/workloads/{made['id']}/stop")
        await asyncio.wait_for(response.content.read(), 20)


async def test_a_long_log_comes_whole(running: House) -> None:
    # 300 kB, with characters of three bytes across every border of a chunk.
    much = job("much", "for n in $(seq 20000); do echo '日本語日本'; done", show_commands=False)
    await running.project("web", jobs=[much])
    made = await running.build()
    await running.finished(made["id"])
    assert await log(running, f"{made['id']}-1") == "日本語日本\n".encode() * 20000


async def test_a_job_that_waits_has_an_empty_log(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build()
    answer = await waiting.call("GET", f"{API}/jobs/{made['id']}-1/log")
    assert (answer.status, answer.body) == (200, b"")
    bad = await waiting.call("GET", f"{API}/jobs/{made['id']}-1/log?follow=yes")
    assert (bad.status, bad.error["field"]) == (422, "follow")


async def test_following_a_job_that_is_canceled_ends(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build()
    following = asyncio.create_task(waiting.call("GET", f"{API}/jobs/{made['id']}-1/log?follow=1"))
    await waiting.until(made["id"], state="queued")
    await waiting.call("POST", f"{API}/workloads/{made['id']}/stop")
    assert (await asyncio.wait_for(following, 20)).body == b""


async def test_a_node_that_stops_cuts_the_stream(waiting: House) -> None:
    """So that a reader knows that it has not seen the end."""
    await waiting.project("web")
    made = await waiting.build()
    response = await waiting.client.get(
        f"{waiting.url}{API}/jobs/{made['id']}-1/log?follow=1",
        headers={"Authorization": f"Bearer {waiting.token}"},
    )
    waiting.node.hanging_up = True
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(response.content.read(), 20)


async def part(house: House, job_id: str, query: str) -> Answer:
    return await house.call("GET", f"{API}/jobs/{job_id}/log?{query}")


def says(answer: Answer) -> tuple[str, ...]:
    names = ("Job-State", "Attempt", "Latest-Attempt", "Log-Offset", "Log-Size")
    return tuple([answer.headers[f"Boxsched-{name}"] for name in names])


async def test_a_part_is_bytes_and_says_what_it_is_a_part_of(running: House) -> None:
    await running.project("web", jobs=[job("print", "printf 'ab\\377c\\n'", show_commands=False)])
    made = await running.build()
    await running.finished(made["id"])
    whole = await part(running, f"{made['id']}-1", "offset=0")
    assert whole.body.endswith(b"ab\xffc\n")
    size = str(len(whole.body))
    assert says(whole) == ("finished", "1", "1", "0", size)
    assert whole.headers["Content-Length"] == size  # so that one that is cut off can be told
    behind = str(len(whole.body) - 3)
    rest = await part(running, f"{made['id']}-1", f"attempt=1&offset={behind}&follow=1")
    assert (rest.body, says(rest)) == (b"\xffc\n", ("finished", "1", "1", behind, size))
    over = await part(running, f"{made['id']}-1", "attempt=1&offset=1000000")
    assert (over.body, over.headers["Boxsched-Log-Size"]) == (b"", size)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("attempt=9999999999999999", "attempt"),
        ("attempt=\u0661", "attempt"),
    ],
)
async def test_a_part_that_cannot_be(waiting: House, query: str, field: str) -> None:
    await waiting.project("web")
    made = await waiting.build()
    refused = await part(waiting, f"{made['id']}-1", query)
    assert (refused.status, refused.error["field"]) == (422, field)
    assert (await part(waiting, f"{made['id']}-1", "attempt=1")).status == 404


async def test_a_followed_part_ends_in_time_and_not_with_a_cut(
    waiting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waiting.project("web")
    made = await waiting.build()
    monkeypatch.setattr("boxsched.api.resources.logs.PART_SECONDS", 0.0)
    ended = await part(waiting, f"{made['id']}-1", "offset=0&follow=1")
    assert says(ended)[:3] == ("waiting", "0", "0")


async def test_a_followed_part_continues_while_there_is_output(running: House) -> None:
    await running.project("web", jobs=[job("count", COUNT, show_commands=False)])
    made = await running.build()
    async with BoxschedClient(running.url, running.token) as client:
        async with asyncio.timeout(20):
            seen = b"".join([chunk async for chunk in client.follow_log(f"{made['id']}-1")])
    assert seen.endswith(b"1\n2\n3\n")


async def test_a_node_that_stops_ends_parts_and_takes_no_more_followers(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build()
    following = asyncio.create_task(part(waiting, f"{made['id']}-1", "offset=0&follow=1"))
    await waiting.until(made["id"], state="queued")
    waiting.node.stopping = True  # readiness is false: a balancer sees it, and followers stay
    assert (await waiting.call("GET", "/readyz")).headers["Connection"] == "close"
    assert not following.done()
    waiting.node.hanging_up = True
    assert (await asyncio.wait_for(following, 20)).status == 200
    refused = await part(waiting, f"{made['id']}-1", "offset=0&follow=1")
    assert (refused.status, refused.headers["Connection"]) == (503, "close")
    assert (await part(waiting, f"{made['id']}-1", "offset=0")).status == 200


async def test_a_reader_that_is_gone_is_noticed_while_the_job_is_silent(
    waiting: House, monkeypatch: pytest.MonkeyPatch, mistakes: pytest.LogCaptureFixture
) -> None:
    await waiting.project("web")
    made = await waiting.build()
    ended, send = asyncio.Event(), Logs._send

    async def sent(*arguments: object) -> None:
        try:
            await send(*arguments)  # type: ignore[arg-type]
        finally:
            ended.set()

    monkeypatch.setattr(Logs, "_send", sent)
    response = await follow(waiting, made["id"])
    response.close()
    await asyncio.wait_for(ended.wait(), 20)
    assert (await waiting.look(made["id"]))["state"] != "finished"
    assert not mistakes.records


async def test_following_reads_no_workload(waiting: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have a thousand jobs, each with its script."""
    await waiting.project("web")
    made = await waiting.build()
    await waiting.until(made["id"], state="queued")
    polled, job_state = asyncio.Semaphore(0), waiting.node.store.job_state

    async def unwanted(*_: object) -> None:
        raise AssertionError

    async def counted(id_: JobId) -> object:
        polled.release()
        return await job_state(id_)

    monkeypatch.setattr(waiting.node.store, "workload", unwanted)
    monkeypatch.setattr(waiting.node.store, "job_state", counted)
    response = await follow(waiting, made["id"])
    for _ in range(3):
        await asyncio.wait_for(polled.acquire(), 20)
    response.close()


@pytest.mark.parametrize("path", ["/jobs/w1-1/log?follow=1", "/events"])
async def test_closing_the_connection_at_once_is_not_an_error(
    waiting: House, path: str, monkeypatch: pytest.MonkeyPatch, mistakes: pytest.LogCaptureFixture
) -> None:
    """The reader is gone before the answer begins."""
    await waiting.project("web")
    await waiting.build()
    opening, gone, ended, open_ = asyncio.Event(), asyncio.Event(), asyncio.Event(), Stream.open

    async def late(stream: Stream) -> None:
        opening.set()
        await gone.wait()
        try:
            await open_(stream)
        finally:
            ended.set()

    monkeypatch.setattr(Stream, "open", late)
    for forcibly in (True, False):
        for event in (opening, gone, ended):
            event.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", waiting.port)
        request = f"GET {API}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {waiting.token}"
        writer.write(f"{request}\r\n\r\n".encode())
        await asyncio.wait_for(opening.wait(), 20)
        writer.transport.abort() if forcibly else writer.close()
        await waiting.call("GET", "/healthz")  # so the other side has seen it
        gone.set()
        await asyncio.wait_for(ended.wait(), 20)
        await waiting.call("GET", "/healthz")
    assert not mistakes.records


async def follow(house: House, id_: str) -> aiohttp.ClientResponse:
    return await house.client.get(
        f"{house.url}{API}/jobs/{id_}-1/log?follow=1",
        headers={"Authorization": f"Bearer {house.token}"},
    )

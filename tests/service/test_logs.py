"""A job's output: read, followed, whatever bytes are in it."""

import asyncio

import aiohttp
import pytest

from tests.service.house import API, House, job


async def log(house: House, job_id: str) -> bytes:
    return (await house.call("GET", f"{API}/jobs/{job_id}/log")).body


async def test_output_is_text_whatever_it_is(running: House) -> None:
    script = "printf '<script>alert(1)</script>\\377\\303\\251\\033]0;x\\007\\n'"
    await running.project("web", jobs=[job("print", script)])
    made = await running.build()
    await running.finished(made["id"])
    answer = await running.call("GET", f"{API}/jobs/{made['id']}-1/log")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.body.decode() == "<script>alert(1)</script>\ufffdé\x1b]0;x\x07\n"


async def test_following_ends_with_the_job(running: House) -> None:
    await running.project("web", jobs=[job("count", "for n in 1 2 3; do echo $n; sleep 0.2; done")])
    made = await running.build()
    answer = await running.call("GET", f"{API}/jobs/{made['id']}-1/log?follow=1")
    assert answer.body == b"1\n2\n3\n"
    assert (await running.look(made["id"]))["jobs"][0]["state"] == "finished"
    assert await log(running, f"{made['id']}-1") == b"1\n2\n3\n"


async def test_what_is_written_is_seen_before_the_end(running: House) -> None:
    await running.project("web", jobs=[job("wait", "echo begun; sleep 60")])
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
    await running.project(
        "web", jobs=[job("much", "for n in $(seq 20000); do echo '日本語日本'; done")]
    )
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
    waiting.node.stopping = True
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(response.content.read(), 20)

"""A job's log: read and followed, with any bytes in it."""

import asyncio
import contextlib
import sqlite3
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from boxsched.api.http.streams import Stream
from boxsched.api.resources.logs import LogRoutes
from boxsched.blobs.places import ContentGone
from boxsched.client import Client as BoxschedClient
from boxsched.errors import NodeFailed
from boxsched.model import JobId
from boxsched.node.stored_logs import MOVE_AFTER_SECONDS, LogMoving
from boxsched.node.sweeping import LEFT_SECONDS, Sweeping
from boxsched.store.operating.check import check
from tests.service.running_service import API, Answer, RunningService, job

COUNT = "for n in 1 2 3; do echo $n; sleep 0.2; done"


async def log(service: RunningService, job_id: str) -> bytes:
    return (await service.call("GET", f"{API}/jobs/{job_id}/log")).body


async def test_output_of_any_bytes_is_shown_as_text(executing_service: RunningService) -> None:
    script = "printf '<script>alert(1)</script>\\377\\303\\251\\033]0;x\\007\\n'"
    await executing_service.project("web", jobs=[job("print", script, show_commands=False)])
    made = await executing_service.build()
    await executing_service.finished(made["id"])
    answer = await executing_service.call("GET", f"{API}/jobs/{made['id']}-1/log")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.body.decode() == "<script>alert(1)</script>\ufffdé\x1b]0;x\x07\n"


async def test_a_log_shows_the_commands_unless_that_is_switched_off(
    executing_service: RunningService,
) -> None:
    settings = [job("shown", "echo hi"), job("hidden", "echo hi", show_commands=False)]
    await executing_service.project("web", jobs=settings)
    kept = (await executing_service.call("GET", f"{API}/projects/web")).json["jobs"]
    assert [one["show_commands"] for one in kept] == [True, False]
    made = await executing_service.build()
    again = (await executing_service.call("POST", f"{API}/workloads/{made['id']}/rebuild")).json
    for id_ in (made["id"], again["id"]):
        await executing_service.finished(id_)
        assert await log(executing_service, f"{id_}-1") == b"+ echo hi\nhi\n"
        assert await log(executing_service, f"{id_}-2") == b"hi\n"
    wrong = await executing_service.call(
        "POST", f"{API}/projects/web/builds",
        {"branch": "main", "jobs": [job("x", show_commands="no")]},
    )  # fmt: skip
    assert (wrong.status, wrong.error["field"]) == (422, "jobs[0].show_commands")


async def test_following_ends_with_the_job(executing_service: RunningService) -> None:
    await executing_service.project("web", jobs=[job("count", COUNT, show_commands=False)])
    made = await executing_service.build()
    answer = await executing_service.call("GET", f"{API}/jobs/{made['id']}-1/log?follow=1")
    assert answer.body == b"1\n2\n3\n"
    assert (await executing_service.look(made["id"]))["jobs"][0]["state"] == "finished"
    assert await log(executing_service, f"{made['id']}-1") == b"1\n2\n3\n"


async def test_written_output_is_visible_before_the_job_ends(
    executing_service: RunningService,
) -> None:
    await executing_service.project(
        "web", jobs=[job("wait", "echo begun; sleep 60", show_commands=False)]
    )
    made = await executing_service.build()
    async with executing_service.client.get(
        f"{executing_service.url}{API}/jobs/{made['id']}-1/log?follow=1",
        headers={"Authorization": f"Bearer {executing_service.token}"},
    ) as response:
        assert await response.content.readline() == b"begun\n"
        await executing_service.call("POST", f"{API}/workloads/{made['id']}/stop")
        await asyncio.wait_for(response.content.read(), 20)


async def test_a_long_log_is_complete(executing_service: RunningService) -> None:
    # 300 kB, with characters of three bytes across every border of a chunk.
    much = job("much", "for n in $(seq 20000); do echo '日本語日本'; done", show_commands=False)
    await executing_service.project("web", jobs=[much])
    made = await executing_service.build()
    await executing_service.finished(made["id"])
    assert await log(executing_service, f"{made['id']}-1") == "日本語日本\n".encode() * 20000


async def test_a_waiting_job_has_an_empty_log(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    answer = await boxless_service.call("GET", f"{API}/jobs/{made['id']}-1/log")
    assert (answer.status, answer.body) == (200, b"")
    bad = await boxless_service.call("GET", f"{API}/jobs/{made['id']}-1/log?follow=yes")
    assert (bad.status, bad.error["field"]) == (422, "follow")


async def test_following_a_canceled_job_ends(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    following = asyncio.create_task(
        boxless_service.call("GET", f"{API}/jobs/{made['id']}-1/log?follow=1")
    )
    await boxless_service.until(made["id"], state="queued")
    await boxless_service.call("POST", f"{API}/workloads/{made['id']}/stop")
    assert (await asyncio.wait_for(following, 20)).body == b""


async def test_a_node_that_stops_cuts_the_stream(boxless_service: RunningService) -> None:
    """So a reader knows that it has not seen the end."""
    await boxless_service.project("web")
    made = await boxless_service.build()
    response = await boxless_service.client.get(
        f"{boxless_service.url}{API}/jobs/{made['id']}-1/log?follow=1",
        headers={"Authorization": f"Bearer {boxless_service.token}"},
    )
    boxless_service.node.hanging_up = True
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(response.content.read(), 20)


async def part(service: RunningService, job_id: str, query: str) -> Answer:
    return await service.call("GET", f"{API}/jobs/{job_id}/log?{query}")


def says(answer: Answer) -> tuple[str, ...]:
    names = ("Job-State", "Attempt", "Latest-Attempt", "Log-Offset", "Log-Size")
    return tuple([answer.headers[f"Boxsched-{name}"] for name in names])


async def test_a_part_is_bytes_and_says_which_part_it_is(
    executing_service: RunningService,
) -> None:
    await executing_service.project(
        "web", jobs=[job("print", "printf 'ab\\377c\\n'", show_commands=False)]
    )
    made = await executing_service.build()
    await executing_service.finished(made["id"])
    whole = await part(executing_service, f"{made['id']}-1", "offset=0")
    assert whole.body.endswith(b"ab\xffc\n")
    size = str(len(whole.body))
    assert says(whole) == ("finished", "1", "1", "0", size)
    # so that a reader notices a part that was cut off
    assert whole.headers["Content-Length"] == size
    behind = str(len(whole.body) - 3)
    rest = await part(executing_service, f"{made['id']}-1", f"attempt=1&offset={behind}&follow=1")
    assert (rest.body, says(rest)) == (b"\xffc\n", ("finished", "1", "1", behind, size))
    over = await part(executing_service, f"{made['id']}-1", "attempt=1&offset=1000000")
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
async def test_an_invalid_part_is_refused(
    boxless_service: RunningService, query: str, field: str
) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    refused = await part(boxless_service, f"{made['id']}-1", query)
    assert (refused.status, refused.error["field"]) == (422, field)
    assert (await part(boxless_service, f"{made['id']}-1", "attempt=1")).status == 404


async def test_a_followed_part_ends_in_time_and_is_not_cut_off(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    monkeypatch.setattr("boxsched.api.resources.logs.PART_SECONDS", 0.0)
    ended = await part(boxless_service, f"{made['id']}-1", "offset=0&follow=1")
    assert says(ended)[:3] == ("waiting", "0", "0")


async def test_a_followed_part_continues_while_there_is_output(
    executing_service: RunningService,
) -> None:
    await executing_service.project("web", jobs=[job("count", COUNT, show_commands=False)])
    made = await executing_service.build()
    async with BoxschedClient(executing_service.url, executing_service.token) as client:
        async with asyncio.timeout(20):
            seen = b"".join([chunk async for chunk in client.follow_log(f"{made['id']}-1")])
    assert seen.endswith(b"1\n2\n3\n")


async def test_a_node_that_stops_ends_parts_and_accepts_no_more_followers(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    following = asyncio.create_task(part(boxless_service, f"{made['id']}-1", "offset=0&follow=1"))
    await boxless_service.until(made["id"], state="queued")
    boxless_service.node.stopping = (
        True  # readiness is false: a balancer sees it, and followers stay
    )
    assert (await boxless_service.call("GET", "/readyz")).headers["Connection"] == "close"
    assert not following.done()
    boxless_service.node.hanging_up = True
    assert (await asyncio.wait_for(following, 20)).status == 200
    refused = await part(boxless_service, f"{made['id']}-1", "offset=0&follow=1")
    assert (refused.status, refused.headers["Connection"]) == (503, "close")
    assert (await part(boxless_service, f"{made['id']}-1", "offset=0")).status == 200


async def test_a_reader_that_is_gone_is_noticed_while_the_job_writes_nothing(
    boxless_service: RunningService,
    monkeypatch: pytest.MonkeyPatch,
    mistakes: pytest.LogCaptureFixture,
) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    ended, send = asyncio.Event(), LogRoutes._send

    async def sent(*arguments: object) -> None:
        try:
            await send(*arguments)  # type: ignore[arg-type]
        finally:
            ended.set()

    monkeypatch.setattr(LogRoutes, "_send", sent)
    response = await follow(boxless_service, made["id"])
    response.close()
    await asyncio.wait_for(ended.wait(), 20)
    assert (await boxless_service.look(made["id"]))["state"] != "finished"
    assert not mistakes.records


async def test_following_does_not_read_the_workload(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have a thousand jobs, each with its script."""
    await boxless_service.project("web")
    made = await boxless_service.build()
    await boxless_service.until(made["id"], state="queued")
    polled, job_state = asyncio.Semaphore(0), boxless_service.node.store.job_state

    async def unwanted(*_: object) -> None:
        raise AssertionError

    async def counted(id_: JobId) -> object:
        polled.release()
        return await job_state(id_)

    monkeypatch.setattr(boxless_service.node.store, "workload", unwanted)
    monkeypatch.setattr(boxless_service.node.store, "job_state", counted)
    response = await follow(boxless_service, made["id"])
    for _ in range(3):
        await asyncio.wait_for(polled.acquire(), 20)
    response.close()


@pytest.mark.parametrize("path", ["/jobs/w1-1/log?follow=1", "/events"])
async def test_closing_the_connection_at_once_is_not_an_error(
    boxless_service: RunningService,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    mistakes: pytest.LogCaptureFixture,
) -> None:
    """The reader is gone before the answer starts."""
    await boxless_service.project("web")
    await boxless_service.build()
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
        _, writer = await asyncio.open_connection("127.0.0.1", boxless_service.port)
        request = (
            f"GET {API}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {boxless_service.token}"
        )
        writer.write(f"{request}\r\n\r\n".encode())
        await asyncio.wait_for(opening.wait(), 20)
        writer.transport.abort() if forcibly else writer.close()
        await boxless_service.call("GET", "/healthz")  # so the other side has seen it
        gone.set()
        await asyncio.wait_for(ended.wait(), 20)
        await boxless_service.call("GET", "/healthz")
    assert not mistakes.records


async def follow(service: RunningService, id_: str) -> aiohttp.ClientResponse:
    return await service.client.get(
        f"{service.url}{API}/jobs/{id_}-1/log?follow=1",
        headers={"Authorization": f"Bearer {service.token}"},
    )


# --- Times of lines ---------------------------------------------------------------------------


async def stamped(service: RunningService, job_id: str, query: str = "") -> list[list[str]]:
    answer = await service.call("GET", f"{API}/jobs/{job_id}/log?timestamps=1{query}")
    assert answer.status == 200, answer.body
    return [line.split(" ", 1) for line in answer.body.decode().splitlines()]


async def test_each_line_has_the_time_at_which_it_was_stored(
    executing_service: RunningService, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"printf 'a\\n\\nb'; until [ -e {gate} ]; do sleep 0.02; done; printf 'c\\nd'"
    await executing_service.project("web", jobs=[job("say", script, show_commands=False)])
    build = await executing_service.build()
    one = build["jobs"][0]["id"]
    async with asyncio.timeout(20):
        while await log(executing_service, one) != b"a\n\nb":  # noqa: ASYNC110 -- no event for it
            await asyncio.sleep(0.02)
    before = executing_service.node.clock.now()
    gate.touch()
    await executing_service.finished(build["id"])
    for query in ("", "&follow=1"):
        lines = await stamped(executing_service, one, query)
        assert [text for _, text in lines] == ["a", "", "bc", "d"]
        times = [datetime.fromisoformat(at).timestamp() for at, _ in lines]
        assert times == sorted(times)
        assert times[2] <= before + 0.001 <= times[3] + 0.002, "a line has the time of its begin"


async def test_times_are_for_text_alone(executing_service: RunningService) -> None:
    await executing_service.project("web")
    build = await executing_service.finished((await executing_service.build())["id"])
    path = f"{API}/jobs/{build['jobs'][0]['id']}/log"
    for query in ("timestamps=1&offset=0", "timestamps=1&attempt=1", "timestamps=x"):
        answer = await executing_service.call("GET", f"{path}?{query}")
        assert (answer.status, answer.error["field"]) == (422, "timestamps")


async def test_output_that_an_older_node_stored_has_no_time(
    executing_service: RunningService,
) -> None:
    await executing_service.project("web", jobs=[job("say", "echo old", show_commands=False)])
    build = await executing_service.finished((await executing_service.build())["id"])
    data = executing_service.node.options.data
    with contextlib.closing(sqlite3.connect(data / "boxsched.sqlite")) as raw, raw:
        raw.execute("UPDATE log_chunk SET stored_at = NULL")
    assert await stamped(executing_service, build["jobs"][0]["id"]) == [["-" * 24, "old"]]


# --- Logs in files (--log-store) ----------------------------------------------------------------


async def test_a_moved_log_is_read_as_before(tmp_path: Path) -> None:
    options = {"box_driver": "process", "log_store": tmp_path / "store"}
    async with RunningService.open(tmp_path / "data", **options) as service:
        script = "echo one; sleep 0.5; seq 40000; printf 'end'"
        await service.project("web", jobs=[job("say", script, show_commands=False)])
        build = await service.finished((await service.build())["id"])
        path = f"{API}/jobs/{build['jobs'][0]['id']}/log"
        asked = ["", "?follow=1", "?offset=0", "?offset=3", "?offset=100000", "?timestamps=1"]
        before = [await service.call("GET", path + query) for query in asked]
        assert len(before[0].body) > 200_000

        node = service.node
        assert node.files.log_store is not None
        moving = LogMoving(node.store, node.files.log_store, node.clock, lambda: True)
        await moving.run_once(node.clock.now())
        assert moving.moved == 0, "its workload has just finished"
        await moving.run_once(node.clock.now() + 2 * MOVE_AFTER_SECONDS)
        assert moving.moved == 1
        with contextlib.closing(sqlite3.connect(tmp_path / "data/boxsched.sqlite")) as raw:
            assert raw.execute("SELECT count(*) FROM log_chunk").fetchone() == (0,)

        after = [await service.call("GET", path + query) for query in asked]
        assert [one.body for one in after] == [one.body for one in before]
        size = "Boxsched-Log-Size"
        assert [one.headers.get(size) for one in after] == [one.headers.get(size) for one in before]
        assert await check(node.options.database_url) == []

        count, _ = await node.store.prune_log_files(0, node.clock.now() + 1, 100)
        assert count == 1
        assert (await service.call("GET", path)).body == b""
        sweeping = Sweeping(node.store, node.files, node.clock, lambda: True)
        while await sweeping.run_once(node.clock.now() + LEFT_SECONDS + 60):
            pass
        assert not list((tmp_path / "store/files").glob("*/*"))


async def test_a_moved_log_that_is_gone_is_an_error_that_says_so(
    tmp_path: Path, mistakes: pytest.LogCaptureFixture
) -> None:
    options = {"box_driver": "process", "log_store": tmp_path / "store"}
    async with RunningService.open(tmp_path / "data", **options) as service:
        await service.project("web", jobs=[job("say", "seq 40000", show_commands=False)])
        build = await service.finished((await service.build())["id"])
        path = f"{API}/jobs/{build['jobs'][0]['id']}/log"
        node = service.node
        assert node.files.log_store is not None
        moving = LogMoving(node.store, node.files.log_store, node.clock, lambda: True)
        await moving.run_once(node.clock.now() + 2 * MOVE_AFTER_SECONDS)
        (file,) = (tmp_path / "store/files").glob("*/*")
        file.unlink()
        for query in ("", "?follow=1", "?offset=0", "?offset=9&follow=1", "?timestamps=1"):
            answer = await service.call("GET", path + query)
            assert (answer.status, answer.error["code"]) == (409, "content_gone"), query
        assert "is not there, but the database refers to it" in mistakes.text


@pytest.mark.parametrize("query", ["", "?offset=0"])
async def test_an_error_in_the_middle_of_a_log_cuts_it_and_adds_nothing(
    executing_service: RunningService, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    await executing_service.project("web", jobs=[job("say", "seq 40000", show_commands=False)])
    build = await executing_service.finished((await executing_service.build())["id"])
    logs = executing_service.node.logs
    read = logs.read

    async def fails(job: JobId, attempt: int, offset: int, limit: int) -> bytes:
        if offset:
            raise ContentGone("its content is not in the store any more")
        return await read(job, attempt, offset, limit)

    monkeypatch.setattr(logs, "read", fails)
    path = f"{API}/jobs/{build['jobs'][0]['id']}/log{query}"
    url, headers = executing_service.url, {"Authorization": f"Bearer {executing_service.token}"}
    found: list[bytes] = []

    async def receive(answer: aiohttp.ClientResponse) -> None:
        async for chunk in answer.content.iter_any():
            found.append(chunk)

    async with aiohttp.ClientSession() as session, session.get(url + path, headers=headers) as got:
        with pytest.raises(aiohttp.ClientPayloadError):
            await receive(got)
    assert b"".join(found).startswith(b"1\n2\n")
    assert b"error" not in b"".join(found)


async def test_a_folder_of_another_installation_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with RunningService.open(tmp_path / "a", log_store=store):
        pass
    with pytest.raises(NodeFailed, match="belongs to another installation"):
        async with RunningService.open(tmp_path / "b", log_store=store):
            pass

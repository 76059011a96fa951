"""Logs are read to their end, however an answer ends."""

import asyncio

import pytest
from aiohttp import web

from boxsched import errors
from boxsched.client import Client
from boxsched.client import logs as client_logs

TEXT = b"one\ntwo\nthree\n"


class Job:
    """A fake job; ``ends`` are the ways in which its next answers end."""

    def __init__(self):
        self.attempts = {1: TEXT}
        self.latest = 1
        self.state = "finished"
        self.cut_after = []  # bytes of the next answers; then the connection ends
        self.length = False  # whether the answer has a length
        self.asked = []
        self.asks = asyncio.Semaphore(0)

    async def answer(self, request):
        attempt = int(request.query.get("attempt", self.latest))
        offset = int(request.query["offset"])
        self.asked.append((request.query["follow"], attempt, offset))
        self.asks.release()
        if attempt > self.latest:
            error = {"code": "not_found", "message": "no such attempt", "field": "attempt"}
            return web.json_response({"error": error}, status=404)
        response = web.StreamResponse()
        response.headers["Boxsched-Job-State"] = self.state
        response.headers["Boxsched-Attempt"] = str(attempt)
        response.headers["Boxsched-Latest-Attempt"] = str(self.latest)
        response.headers["Boxsched-Log-Size"] = str(len(self.attempts[attempt]))
        rest = self.attempts[attempt][offset:]
        if self.length:
            response.content_length = len(rest)
        await response.prepare(request)
        if self.cut_after:
            await response.write(rest[: self.cut_after.pop(0)])
            if self.length:
                request.transport.close()
        else:
            await response.write(rest)
        return response


@pytest.fixture
def job(service):
    played = Job()
    service.part = [played.answer]
    return played


@pytest.fixture
async def client(service):
    async with Client(service.url, "t", patience=5) as opened:
        yield opened


async def followed(client):
    async with asyncio.timeout(20):
        return b"".join([chunk async for chunk in client.follow_log("w1-1")])


@pytest.mark.parametrize("length", [False, True])
async def test_an_answer_that_ends_early_is_not_the_end(client, job, length):
    """Without a length, as a proxy with HTTP/1.0 passes it on, the end is all that is visible."""
    job.cut_after, job.length = [4, 0, 3], length
    assert await followed(client) == TEXT
    assert [offset for *_, offset in job.asked] == [0, 4, 4, 7]


@pytest.mark.parametrize("length", [False, True])
async def test_a_log_that_is_not_followed_is_read_completely(client, job, length):
    job.cut_after, job.length, job.state = [5, 4], length, "running"
    assert await client.log("w1-1") == TEXT
    assert job.asked == [("0", 1, 0), ("0", 1, 5), ("0", 1, 9)]


async def test_following_ends_only_with_the_job(client, job):
    job.state = "running"
    waiting = asyncio.ensure_future(followed(client))
    for _ in range(3):
        await job.asks.acquire()
    job.attempts[1] += b"four\n"
    job.state = "finished"
    assert await waiting == TEXT + b"four\n"


async def test_after_a_lost_attempt_the_next_one_is_shown(client, job):
    job.state = "running"
    seen = b""
    async with asyncio.timeout(20):
        async for chunk in client.follow_log("w1-1"):
            seen += chunk
            if len(seen) == len(TEXT):
                job.attempts |= {1: TEXT + b"last of 1\n", 2: b"of 2\n", 3: b"of 3\n"}
                job.latest, job.state = 3, "finished"
    assert seen == (TEXT + b"last of 1\n\n--- attempt 2 ---\nof 2\n\n--- attempt 3 ---\nof 3\n")


async def test_an_attempt_that_its_worker_got_back_goes_on_where_it_was_left(client, job):
    """A person restored it while its next attempt had not begun: that one is gone."""
    job.state = "running"
    seen = b""
    async with asyncio.timeout(20):
        async for chunk in client.follow_log("w1-1"):
            seen += chunk
            if seen == TEXT:
                job.attempts[2], job.latest = b"", 2
            elif job.latest == 2:
                job.attempts[1] += b"four\n"
                job.latest, job.state = 1, "finished"
    assert seen == TEXT + b"\n--- attempt 2 ---\n\n--- attempt 1 ---\nfour\n"


async def test_following_a_waiting_job_shows_its_first_attempt(client, job):
    job.attempts[0], job.latest, job.state = b"", 0, "waiting"
    waiting = asyncio.ensure_future(followed(client))
    for _ in range(2):
        await job.asks.acquire()
    job.latest, job.state = 1, "finished"
    assert await waiting == TEXT


async def test_a_silent_connection_is_given_up(service, client, monkeypatch):
    monkeypatch.setattr(
        client_logs, "_TIMEOUT", client_logs.aiohttp.ClientTimeout(total=None, sock_read=0.05)
    )
    job = Job()

    async def silent(request):
        service.part = [job.answer]
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()

    service.part = [silent]
    assert await followed(client) == TEXT


async def test_a_service_that_does_not_tell_where_a_log_ends(service):
    async def plain(request):
        return web.Response(body=TEXT)

    service.part = [plain]
    async with Client(service.url, "t", patience=0) as client:
        with pytest.raises(errors.StoreAway, match="does not contain the length of the log"):
            await client.log("w1-1")


def test_the_time_limit_for_silence_is_longer_than_an_answer_of_the_service():
    from boxsched.api.resources.logs import PART_SECONDS

    assert client_logs.SILENCE_SECONDS > 2 * PART_SECONDS

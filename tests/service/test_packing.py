"""Compressed answers: which clients get them, which answers, and that the content is equal."""

import asyncio
import gzip
import json

import pytest

from activity_monitor.packing import accepts_gzip
from tests.service.running_service import API, RunningService

GZIP = {"Accept-Encoding": "gzip, deflate, br"}
PLAIN = {"Accept-Encoding": "identity"}


@pytest.mark.parametrize(
    ("accepted", "allowed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("br;q=1.0, *;q=0.1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
        ("gzip;q=much", False),
        ("xgzip", False),
        ("gzip;q=²", False),
    ],
)
def test_the_encodings_that_a_client_accepts_are_recognized(accepted: str, allowed: bool) -> None:
    assert accepts_gzip(accepted) is allowed


async def test_lists_are_compressed_for_clients_that_accept_it(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web")
    made = [await boxless_service.build(branch=f"b{n}") for n in range(20)]
    await boxless_service.until(made[-1]["id"], state="queued")
    for path in ("/activity", "/workloads", "/openapi.json"):
        packed = await boxless_service.call("GET", API + path, headers=GZIP)
        plain = await boxless_service.call("GET", API + path, headers=PLAIN)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert int(packed.headers["Content-Length"]) < len(plain.body) / 4
        assert json.loads(gzip.decompress(packed.body)) == json.loads(plain.body)


async def test_both_forms_have_one_etag(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    await boxless_service.until((await boxless_service.build())["id"], state="queued")
    packed = await boxless_service.call("GET", f"{API}/activity", headers=GZIP)
    again = {**PLAIN, "If-None-Match": packed.headers["ETag"]}
    assert (await boxless_service.call("GET", f"{API}/activity", headers=again)).status == 304


async def test_many_clients_share_one_compressed_answer(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    await boxless_service.build()
    asked = (boxless_service.call("GET", f"{API}/activity", headers=GZIP) for _ in range(20))
    answers = await asyncio.gather(*asked)
    assert {answer.headers["Content-Encoding"] for answer in answers} == {"gzip"}
    assert len({answer.body for answer in answers}) < len(answers) // 2


async def test_small_answers_secrets_and_streams_are_not_compressed(
    executing_service: RunningService,
) -> None:
    await executing_service.project("web")
    built = await executing_service.build()
    job = built["jobs"][0]["id"]
    await executing_service.finished(built["id"])
    small = await executing_service.call("GET", "/healthz", headers=GZIP)
    token = await executing_service.call("POST", f"{API}/tokens", {"role": "admin"}, headers=GZIP)
    log = await executing_service.call("GET", f"{API}/jobs/{job}/log", headers=GZIP)
    assert token.status == 201 and log.status == 200
    for answer in (small, token, log):
        assert "Content-Encoding" not in answer.headers
    headers = {"Authorization": f"Bearer {executing_service.token}", **GZIP}
    async with executing_service.client.get(
        executing_service.url + API + "/events", headers=headers
    ) as events:
        assert "Content-Encoding" not in events.headers
        assert await events.content.readline()

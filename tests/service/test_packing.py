"""Compressed answers: who gets them, which ones, and that they say the same."""

import asyncio
import gzip
import json

import pytest

from activity_monitor.packing import accepts_gzip
from tests.service.house import API, House

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
def test_what_a_client_accepts(accepted: str, allowed: bool) -> None:
    assert accepts_gzip(accepted) is allowed


async def test_lists_are_compressed_for_clients_that_accept_it(waiting: House) -> None:
    await waiting.project("web")
    made = [await waiting.build(branch=f"b{n}") for n in range(20)]
    await waiting.until(made[-1]["id"], state="queued")
    for path in ("/activity", "/workloads", "/openapi.json"):
        packed = await waiting.call("GET", API + path, headers=GZIP)
        plain = await waiting.call("GET", API + path, headers=PLAIN)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert int(packed.headers["Content-Length"]) < len(plain.body) / 4
        assert json.loads(gzip.decompress(packed.body)) == json.loads(plain.body)


async def test_one_tag_for_both_forms(waiting: House) -> None:
    await waiting.project("web")
    await waiting.until((await waiting.build())["id"], state="queued")
    packed = await waiting.call("GET", f"{API}/activity", headers=GZIP)
    again = {**PLAIN, "If-None-Match": packed.headers["ETag"]}
    assert (await waiting.call("GET", f"{API}/activity", headers=again)).status == 304


async def test_many_share_one_compressed_answer(waiting: House) -> None:
    await waiting.project("web")
    await waiting.build()
    asked = (waiting.call("GET", f"{API}/activity", headers=GZIP) for _ in range(20))
    answers = await asyncio.gather(*asked)
    assert {answer.headers["Content-Encoding"] for answer in answers} == {"gzip"}
    assert len({answer.body for answer in answers}) < len(answers) // 2


async def test_small_answers_secrets_and_streams_are_not_compressed(running: House) -> None:
    await running.project("web")
    built = await running.build()
    job = built["jobs"][0]["id"]
    await running.finished(built["id"])
    small = await running.call("GET", "/healthz", headers=GZIP)
    token = await running.call("POST", f"{API}/tokens", {"role": "admin"}, headers=GZIP)
    log = await running.call("GET", f"{API}/jobs/{job}/log", headers=GZIP)
    assert token.status == 201 and log.status == 200
    for answer in (small, token, log):
        assert "Content-Encoding" not in answer.headers
    headers = {"Authorization": f"Bearer {running.token}", **GZIP}
    async with running.client.get(running.url + API + "/events", headers=headers) as events:
        assert "Content-Encoding" not in events.headers
        assert await events.content.readline()

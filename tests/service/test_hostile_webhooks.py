"""A delivery with any body, signed or not, never causes an internal error (F27)."""

import asyncio
import gzip
import json
import logging
import random
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.api.http.payloads import MAX_PAYLOAD_BYTES, unpacked
from boxsched.api.resources import webhooks
from boxsched.errors import Malformed, TooLarge
from tests.service.code_hosts import SECRET, listed, push, secured, send, sent, signature, signed
from tests.service.running_service import RunningService, job

PUSH = json.dumps(push()).encode()
BODIES = {
    "empty": b"",
    "cut off": PUSH[:200],
    "no object": b"[]",
    "null": b"null",
    "a number": b"4" * 5_000,
    "not UTF-8": b'{"ref": "refs/heads/\xff\xfe"}',
    "half a pair": b'{"ref": "refs/heads/\\ud800", "after": "' + b"a" * 40 + b'"}',
    "NUL": b'{"ref": "refs/heads/a\\u0000b", "after": "' + b"a" * 40 + b'"}',
    "a key twice": b'{"ref": "refs/heads/a", "ref": "refs/heads/b"}',
    "NaN": b'{"ref": NaN}',
    "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep lists": b'{"commits": ' + b"[" * 100_000,
    "wrong types": b'{"ref": 7, "after": [], "repository": "x"}',
    "no bytes of text": bytes(range(256)) * 20,
    "a long name": json.dumps(push("x" * 100_000)).encode(),
    "a name that is an option": json.dumps(push("--upload-pack=x")).encode(),
    "huge numbers": b'{"ref": "refs/heads/a", "repository": {"id": ' + b"9" * 5_000 + b"}}",
    "many keys": json.dumps({f"k{number}": 0 for number in range(20_000)}).encode(),
}


@pytest.fixture
async def service(boxless_service: RunningService) -> RunningService:
    await secured(boxless_service)
    return boxless_service


@pytest.mark.parametrize("provider", ["github", "gitlab", "bitbucket", "generic"])
@pytest.mark.parametrize("name", BODIES)
async def test_a_signed_body_of_any_kind_gets_a_proper_answer(
    service: RunningService, name: str, provider: str, mistakes: pytest.LogCaptureFixture
) -> None:
    events = {"github": {}, "gitlab": {"X-Gitlab-Event": "Push Hook"}}
    headers = events.get(provider, {"X-Event-Key": "repo:push"})
    answer = await send(service, BODIES[name], provider=provider, headers=headers)
    assert answer.status in (200, 400, 422), answer
    if answer.status == 200:
        assert answer.json["result"] in ("ignored", "created")
    unsigned = await send(
        service, BODIES[name], provider=provider, secret="another", headers=headers
    )
    assert unsigned.status == 401
    assert [one for one in mistakes.records if one.levelno >= logging.ERROR] == []


async def test_random_bytes_never_cause_an_internal_error(service: RunningService) -> None:
    chance = random.Random(7)
    for _ in range(300):
        body = bytearray(PUSH)
        for _ in range(chance.randrange(1, 8)):
            at = chance.randrange(len(body))
            body[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
        answer = await send(service, bytes(body))
        assert answer.status in (200, 400), (bytes(body), answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-GitHub-Event": "p" * 7_000},
        {"X-GitHub-Event": "push\udcff"},
        {"X-GitHub-Delivery": "\udcff" * 40},
        {"X-GitHub-Delivery": "d" * 7_000},
        {"X-Hub-Signature-256": "sha256=" + "é" * 64},
        {"X-Hub-Signature-256": "sha1=" + "0" * 40},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "\udcff"},
    ],
)
async def test_headers_of_any_kind_get_a_proper_answer(
    service: RunningService, headers: dict[str, str], mistakes: pytest.LogCaptureFixture
) -> None:
    answer = await send(service, push(), headers=headers)
    assert answer.status in (200, 400, 401), answer
    assert await listed(service) == [] or answer.status == 200
    assert [one for one in mistakes.records if one.levelno >= logging.ERROR] == []


async def test_a_delivery_up_to_the_limit_is_accepted_and_a_larger_one_is_refused(
    service: RunningService,
) -> None:
    large = push(padding="x" * (MAX_PAYLOAD_BYTES - 10_000))
    assert (await sent(service, large))["result"] == "created"
    answer = await send(service, b" " * (MAX_PAYLOAD_BYTES + 1))
    assert (answer.status, answer.error["code"]) == (413, "too_large")


async def test_no_parser_runs_over_a_large_body_in_the_node(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other thread runs during a parser's call, and the event loop would stop."""

    def held(*_: object) -> None:
        raise AssertionError("a large body was read in the node's process")

    monkeypatch.setattr(webhooks, "read", held)
    large = push(padding="x" * (1 << 20))
    assert (await sent(service, large))["result"] == "created"
    assert (await sent(service, large))["result"] == "duplicate"
    again = await send(service, b"[" + b" " * (1 << 20) + b"]")
    assert (again.status, again.error["message"]) == (400, "the body is not a JSON object")


async def test_a_body_of_unknown_size_is_limited_too(service: RunningService) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_PAYLOAD_BYTES // 65_536 + 2):
            yield b" " * 65_536

    answer = await service.call("POST", "/webhooks/github/web", data=endless(), token=None)
    assert answer.status == 413


async def test_a_compressed_delivery_is_accepted(service: RunningService) -> None:
    body = json.dumps(push()).encode()
    headers = {**signed("github", body), "Content-Encoding": "gzip"}
    answer = await send(service, gzip.compress(body), headers=headers)
    assert answer.json["result"] == "created"


async def test_a_compression_bomb_is_refused_before_it_is_unpacked(service: RunningService) -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join(bomb.compress(b" " * (1 << 20)) for _ in range(100)) + bomb.flush()
    assert len(body) < 1 << 20
    answer = await send(service, body, headers={"Content-Encoding": "gzip"})
    assert answer.status == 413


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip", "x" * 100])
async def test_other_encodings_are_refused(service: RunningService, encoding: str) -> None:
    answer = await send(service, push(), headers={"Content-Encoding": encoding})
    assert answer.status == 400


def test_gzip_data_is_unpacked_up_to_a_limit() -> None:
    whole = gzip.compress(b"ab")
    assert unpacked(whole) == b"ab"
    for broken in (b"", whole[:-1], whole[:5], b"no gzip", whole + b"x", whole + whole):
        with pytest.raises(Malformed):
            unpacked(broken)
    assert len(unpacked(gzip.compress(b" " * MAX_PAYLOAD_BYTES, 1))) == MAX_PAYLOAD_BYTES
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(b" " * (MAX_PAYLOAD_BYTES + 1), 1))


async def test_large_bodies_of_anonymous_clients_wait_for_one_another(
    service: RunningService,
) -> None:
    """Memory is limited by the number that is read at a time; the API has its own limit."""

    async def slow(go: asyncio.Event) -> AsyncIterator[bytes]:
        yield b" "
        await go.wait()

    go = asyncio.Event()
    held = [
        asyncio.create_task(service.call("POST", "/webhooks/github/web", data=slow(go), token=None))
        for _ in range(5)
    ]
    assert (await sent(service, push()))["result"] == "created"  # small bodies do not wait
    assert (
        await service.project("api", jobs=[{**job(), "commands": ["x" * 100_000]}])
    ).status == 201
    go.set()
    assert {answer.status for answer in await asyncio.gather(*held)} == {401}


async def test_a_secret_may_be_any_text(service: RunningService) -> None:
    secret = "é漢🦉 'quote' \\ " + "x" * 900
    await service.project(webhook_secret=secret)
    body = json.dumps(push()).encode()
    answer = await send(service, body, headers={
        "X-Hub-Signature-256": f"sha256={signature(body, secret)}",
    })  # fmt: skip
    assert answer.status == 200
    assert SECRET not in str(answer)


async def test_no_secret_appears_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await secured(service)
        await sent(service, push())
        await send(service, push(), secret="CANARY-of-another")
        await send(service, push(), provider="gitlab", secret="CANARY-of-another")
    assert SECRET not in caplog.text
    assert "CANARY" not in caplog.text

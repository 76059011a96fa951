"""Random bytes to every route never cause an internal error."""

import asyncio
import logging
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies

from tests.service.running_service import API, RunningService, job


def head(service: RunningService, method: str, path: str, *lines: str) -> bytes:
    given = [
        f"{method} {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {service.token}",
        *lines,
    ]
    return "\r\n".join([*given, "", ""]).encode()


# --- Any bytes to any route -----------------------------------------------------------------


@pytest.fixture(scope="module")
def loop_and_service(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[object, RunningService]]:
    """One service for all examples: Hypothesis calls a plain function many times."""
    loop = asyncio.new_event_loop()
    context = RunningService.open(tmp_path_factory.mktemp("fuzz") / "data", boxes=1)
    service = loop.run_until_complete(context.__aenter__())
    loop.run_until_complete(service.project("web", servers={"s": {"jobs": [job()]}}))
    made = loop.run_until_complete(service.build())
    loop.run_until_complete(service.finished(made["id"]))
    yield loop, service
    loop.run_until_complete(context.__aexit__(None, None, None))
    loop.close()


def routes_and_bytes() -> strategies.SearchStrategy[tuple[str, str, bytes, bytes]]:
    piece = strategies.one_of(
        strategies.sampled_from(["web", "w1", "w1-1", "w9", "..", "%00", "%ff", "%2e%2e%2f", "%"]),
        strategies.binary(max_size=12).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw)),
    )
    template = strategies.sampled_from([
        "/projects/{}", "/projects", "/projects/{}/builds", "/projects/{}/deploys",
        "/projects/{}/ssh-sessions", "/workloads", "/workloads/{}", "/workloads/{}/explanation",
        "/workloads/{}/stop", "/workloads/{}/rebuild", "/jobs/{}/log", "/boxes", "/workers",
        "/activity", "/events?after={}", "/workloads?cursor={}", "/workloads?branch={}&limit={}",
        "/workloads?project={}&server={}", "/jobs/w1-1/log?follow={}", "/{}", "/openapi.json",
        "/../../sign-in", "/../../{}",
    ])  # fmt: skip
    path = strategies.builds(lambda t, a, b: t.format(a, b), template, piece, piece)
    json_like = strategies.recursive(
        strategies.one_of(
            strategies.none(),
            strategies.booleans(),
            strategies.integers(),
            strategies.floats(),
            strategies.text(max_size=8),
        ),
        lambda inner: strategies.one_of(
            strategies.lists(inner, max_size=3),
            strategies.dictionaries(
                strategies.sampled_from(
                    [
                        "branch",
                        "tag",
                        "jobs",
                        "name",
                        "commands",
                        "server",
                        "build",
                        "priority",
                        "public_key",
                        "commit",
                        "message",
                        "environment",
                        "timeout_seconds",
                        "servers",
                        "cancellation",
                        "max_boxes",
                        "fail_fast",
                        "schedules",
                        "cron",
                    ]
                ),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=12,
    )
    body = strategies.one_of(strategies.binary(max_size=60), json_like.map(lenient))
    header = strategies.binary(max_size=20).map(
        lambda raw: bytes(byte for byte in raw if byte not in b"\r\n\0")
    )
    method = strategies.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS"])
    return strategies.tuples(method, path, body, header)


def lenient(value: object) -> bytes:
    import json

    return json.dumps(value).encode()  # with NaN, Infinity and lone surrogates


@hypothesis.given(request=routes_and_bytes())
@hypothesis.settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_any_bytes_to_any_route_never_cause_a_5xx(
    loop_and_service: tuple[asyncio.AbstractEventLoop, RunningService],
    caplog: pytest.LogCaptureFixture,
    request: tuple[str, str, bytes, bytes],
) -> None:
    loop, service = loop_and_service
    status = loop.run_until_complete(send(service, *request))
    assert 200 <= status < 500, request
    mistakes = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert not mistakes


async def send(service: RunningService, method: str, path: str, body: bytes, header: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    given = head(
        service, method, API + path, f"Content-Length: {len(body)}", "Connection: close"
    ).removesuffix(b"\r\n")
    given += b"Idempotency-Key: " + header + b"\r\nLast-Event-ID: " + header + b"\r\n\r\n"
    writer.write(given + body)
    line = await asyncio.wait_for(reader.readline(), 20)
    writer.transport.abort()
    return int(line.split()[1])

"""Malformed, huge and hostile requests get a 4xx (docs/api.md, "Errors"), and the service
continues."""

import asyncio
import gzip

import msgspec
import pytest

from boxsched.api.http import deadlines
from tests.service.running_service import API, RunningService, job

BUILDS = f"{API}/projects/web/builds"
MIB = 1 << 20

MALFORMED = {
    "empty": b"",
    "blank": b" \n",
    "half": b'{"branch":"main"',
    "word": b"branch=main",
    "duplicate key": b'{"branch":"main","branch":"main"}',
    "duplicate key inside": b'{"branch":1,"jobs":[{"environment":{"A":"1","B":"2","A":"1"}}]}',
    "duplicate key as an escape": b'{"branch":"main","br\\u0061nch":"main"}',
    "duplicate key in a large body": b'{"branch":"main","message":"'
    + b"m" * 70_000
    + b'","message":"m"}',
    "trailing": b'{"branch":"main"} x',
    "NaN": b'{"branch":"main","priority":NaN}',
    "NaN far behind a wrong type": b'{"branch":1,"x":[[NaN]]}',
    "infinity": b'{"branch":"main","priority":-Infinity}',
    "lone surrogate": b'{"branch":"\\ud800"}',
    "lone surrogate behind": b'{"branch":1,"message":"\\udfff"}',
    "lone surrogate in a key": b'{"branch":"main","\\ud800":1}',
    "not UTF-8": b'{"branch":"\xff"}',
    "surrogate in UTF-8": b'{"branch":"\xed\xa0\x80"}',
    "NUL byte": b'{"branch":"a\x00b"}',
    "control byte": b'{"branch":"a\nb"}',
    "UTF-16": '{"branch":"main"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"branch":"main"}',
    "deep": b"[" * 100_000,
    "deep object": b'{"branch":' * 50_000,
    "deep behind": b'{"branch":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
NONSENSE = {
    "null": b"null",
    "number": b"1",
    "list": b"[]",
    "text": b'"main"',
    "escaped NUL": b'{"branch":"a\\u0000b"}',
    "4 301 digits": b'{"branch":"main","priority":' + b"9" * 4_301 + b"}",
    "900 kB integer": b'{"branch":"main","priority":' + b"9" * 900_000 + b"}",
    "2**53 + 1": b'{"branch":"main","priority":9007199254740993}',
    "1e400": b'{"branch":"main","jobs":[{"name":"a","commands":["b"],"timeout_seconds":1e400}]}',
    "900 kB name": b'{"branch":"' + b"a" * 900_000 + b'"}',
    "many unknown": b"{" + b",".join(b'"k%d":1' % n for n in range(50_000)) + b"}",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests_get_400(boxless_service: RunningService, name: str) -> None:
    await boxless_service.project("web")
    answer = await boxless_service.call("POST", BUILDS, data=MALFORMED[name])
    assert (answer.status, answer.error["code"]) == (400, "malformed"), answer.body
    put = await boxless_service.call("PUT", f"{API}/projects/web", data=MALFORMED[name])
    assert put.status == 400


@pytest.mark.parametrize("name", NONSENSE)
async def test_invalid_values_get_422(boxless_service: RunningService, name: str) -> None:
    await boxless_service.project("web")
    answer = await boxless_service.call("POST", BUILDS, data=NONSENSE[name])
    assert (answer.status, answer.error["code"]) == (422, "invalid"), answer.body
    assert len(answer.body) < 2_000
    assert (await boxless_service.get("/workloads"))["workloads"] == []


async def test_the_content_type_does_not_matter(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "x", "application/json; a=b"):
        answer = await boxless_service.call(
            "POST", BUILDS, {"branch": "main"}, headers={"Content-Type": kind}
        )
        assert answer.status == 201, kind


# --- Size -----------------------------------------------------------------------------------


async def drip(size: int) -> object:
    for _ in range(size // 65_536 + 1):
        yield b" " * 65_536


async def test_more_than_a_mebibyte_gets_413(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    for path, method in ((BUILDS, "POST"), (f"{API}/projects/web", "PUT")):
        whole = await boxless_service.call(method, path, data=b" " * (MIB + 1))
        assert (whole.status, whole.error["code"]) == (413, "too_large")
        chunked = await boxless_service.call(method, path, data=drip(MIB + 1))
        assert (chunked.status, chunked.error["code"]) == (413, "too_large")
    text = msgspec.json.encode({"branch": "main"})
    exactly = await boxless_service.call("POST", BUILDS, data=text + b" " * (MIB - len(text)))
    assert exactly.status == 201


async def test_a_body_of_100_mb_is_refused_by_its_header(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    reader, writer = await asyncio.open_connection("127.0.0.1", boxless_service.port)
    writer.write(head(boxless_service, "POST", BUILDS, f"Content-Length: {100 * MIB}"))
    assert (await reader.readline()).split()[1] == b"413"
    writer.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x", "gzip, gzip"])
async def test_a_compressed_body_is_not_unpacked(
    boxless_service: RunningService, encoding: str
) -> None:
    await boxless_service.project("web")
    bomb = gzip.compress(b" " * (10 * MIB))
    answer = await boxless_service.call(
        "POST", BUILDS, data=bomb, headers={"Content-Encoding": encoding}
    )
    assert (answer.status, answer.error["code"]) == (400, "malformed")


def head(service: RunningService, method: str, path: str, *lines: str) -> bytes:
    given = [
        f"{method} {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {service.token}",
        *lines,
    ]
    return "\r\n".join([*given, "", ""]).encode()


async def test_a_body_that_never_arrives_is_given_up(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "BODY_SECONDS", 0.1)
    await boxless_service.project("web")
    reader, writer = await asyncio.open_connection("127.0.0.1", boxless_service.port)
    writer.write(head(boxless_service, "POST", BUILDS, "Content-Length: 10") + b"{")
    assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"408"
    writer.close()


# --- Settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"name": "other"}, "name"),
        ({"jobs": {}}, "jobs"),
        ({"jobs": [job()] * 1001}, "jobs"),
        ({"jobs": [job("a", "x" * 130_000, "y" * 130_000, "é" * 130_000, "z" * 130_000)]},
         "jobs[0].commands"),
        ({"jobs": [job(environment={"A": "x" * 65_537})]}, "jobs[0].environment.A"),
        ({"jobs": [job(environment={f"A{n}": "x" * 30_000 for n in range(5)})]},
         "jobs[0].environment"),
        ({"servers": {"": {"jobs": [job()]}}}, "servers"),
        ({"servers": {"a\nb": {"jobs": [job()]}}}, "servers"),
        ({"servers": {"s": {"jobs": [{"name": "x"}]}}}, "servers.s.jobs[0].commands"),
        ({"servers": {"s": {"strategy": "sometimes"}}}, "servers.s.strategy"),
        ({"servers": {"s": {"strategy": "automatic"}}}, "servers.s.jobs"),
        ({"servers": {"s": {"strategy": "automatic", "jobs": []}}}, "servers.s.jobs"),
        ({"servers": {"s": 1}}, "servers.s"),
        ({"priority_branches": "main"}, "priority_branches"),
        ({"priority_branches": ["a" * 256]}, "priority_branches[0]"),
        ({"priority_branches": ["a"] * 1001}, "priority_branches"),
        ({"cancellation": [["main", "some"]]}, "cancellation[0][1]"),
        ({"cancellation": [["main"]]}, "cancellation[0]"),
        ({"cancellation": {"main": "all"}}, "cancellation"),
        ({"priority_branches": ["*?" * 100] * 82}, "priority_branches"),
        ({"priority_branches": ["*?" * 100] * 81, "cancellation": [["*?" * 100, "all"]]},
         "cancellation"),
        ({"fail_fast": ["a" * 255] * 1_000}, "fail_fast"),
        ({"build_branches": ["a" * 255] * 1_000}, "build_branches"),
        ({"max_boxes": 0}, "max_boxes"),
        ({"max_boxes": -1}, "max_boxes"),
        ({"max_boxes": 1.5}, "max_boxes"),
        ({"max_boxes": 2**53 + 1}, "max_boxes"),
        ({"max_boxes": "3"}, "max_boxes"),
        ({"fail_fast": "yes"}, "fail_fast"),
        ({"fail_fast": [1]}, "fail_fast[0]"),
        ({"build_branches": [""]}, "build_branches[0]"),
        ({"pull_requests": "all"}, "pull_requests"),
        ({"repository": "--upload-pack=x"}, "repository"),
        ({"repository": "a\nb"}, "repository"),
        ({"repository": "http://example.org/web.git"}, "repository"),
        ({"repository": "ext::sh -c id"}, "repository"),
        ({"repository": "web.git"}, "repository"),
        ({"repository": "https:/example.org/web.git"}, "repository"),
        ({"repository": "HTTP:example.org/web.git"}, "repository"),
        ({"jobs": [job("x"), job("x")]}, "jobs[1].name"),
        ({"servers": {"s": {"jobs": [job("x"), job("x")]}}}, "servers.s.jobs[1].name"),
        ({"default_branch": "-x"}, "default_branch"),
        ({"schedules": [{"cron": "* * * *", "branch": "x"}]}, "schedules[0].cron"),
        ({"schedules": [{"cron": "whenever it is", "branch": "x"}]}, "schedules[0].cron"),
        ({"schedules": [{"cron": "99 99 99 99 99", "branch": "x"}]}, "schedules[0].cron"),
        ({"schedules": [{"cron": "0 0 30 2 *", "branch": "x"}]}, "schedules[0].cron"),
        ({"schedules": [{"cron": "* * * * * *", "branch": "x"}]}, "schedules[0].cron"),
        ({"schedules": [{"cron": "@dayly", "branch": "x"}]}, "schedules[0].cron"),
        ({"schedules": [{"cron": "0 0 * * *\n", "branch": "x"}]}, "schedules[0].cron"),
        ({"schedules": [{"cron": "0 0 */30 2 MON#5", "branch": "x"}]}, "schedules[0].cron"),
        ({"schedules": [{"cron": "0 0 * * *"}]}, "schedules[0].branch"),
        ({"schedules": [{"cron": "0 0 * * *", "branch": "x", "time_zone": "Mars/Phobos"}]},
         "schedules[0].time_zone"),
        ({"schedules": [{"cron": "0 0 * * *", "branch": "x", "time_zone": "../etc/passwd"}]},
         "schedules[0].time_zone"),
        ({"webhook_secret": ""}, "webhook_secret"),
        ({"webhook_secret": "a\0b"}, "webhook_secret"),
    ],
)  # fmt: skip
async def test_invalid_settings_are_refused_with_their_field(
    boxless_service: RunningService, settings: dict[str, object], field: str
) -> None:
    answer = await boxless_service.call("PUT", f"{API}/projects/web", settings)
    assert (answer.status, answer.error.get("field")) == (422, field), answer.body
    assert (await boxless_service.call("GET", f"{API}/projects/web")).status == 404


async def test_settings_may_have_every_field_at_once(boxless_service: RunningService) -> None:
    settings = {
        "repository": "https://example.org/web.git",
        "default_branch": "main",
        "jobs": [job("a", box_type="linux", environment={"A": "ü\n"}, timeout_seconds=0.5)],
        "servers": {"production 1": {"jobs": [job()], "branch": "main", "strategy": "automatic"}},
        "priority_branches": ["main", "release/*"],
        "cancellation": [["main", "none"], ["*", "all"]],
        "max_boxes": 4,
        "fail_fast": ["*"],
        "build_branches": ["*"],
        "pull_requests": "forks",
        "schedules": [
            {"cron": "*/5 0-6 1,15 * MON-FRI", "time_zone": "Europe/Berlin", "branch": "main"},
            {"cron": "@daily", "branch": "main"},
            {"cron": "0 9 * * mon#2", "branch": "main"},
        ],
        "webhook_secret": "s3cret",
    }
    answer = await boxless_service.call("PUT", f"{API}/projects/web", settings)
    assert answer.status == 201, answer.body


# --- Any bytes to any route -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"max_boxes": "3"}, "max_boxes", "must be a whole number or null, not a string"),
        ({"max_boxes": 1.5}, "max_boxes", "must be a whole number or null, not a number"),
        ({"fail_fast": 3}, "fail_fast", "must be true or false or a list, not a whole number"),
        ({"jobs": {}}, "jobs", "must be a list, not an object"),
        ({"servers": []}, "servers", "must be an object, not a list"),
        (
            {"jobs": [{"name": "a", "commands": ["x"], "timeout_seconds": "1 h"}]},
            "jobs[0].timeout_seconds",
            "must be a number or null, not a string",
        ),
        (
            {"jobs": [{"name": "a" * 300, "commands": ["x"]}]},
            "jobs[0].name",
            "must have at most 255 characters",
        ),
        ({"cancellation": [["*"]]}, "cancellation[0]", "must have at least 2 entries"),
    ],
)
async def test_the_message_says_in_plain_words_what_is_valid(
    boxless_service: RunningService, body: dict[str, object], field: str, said: str
) -> None:
    answer = await boxless_service.call("PUT", f"{API}/projects/plain", body)
    assert (answer.status, answer.error["field"], answer.error["message"]) == (422, field, said)


@pytest.mark.parametrize(
    ("method", "path", "what"),
    [
        ("GET", "/projects/nobody", "project 'nobody'"),
        ("DELETE", "/projects/nobody", "project 'nobody'"),
        ("POST", "/projects/nobody/builds", "project 'nobody'"),
        ("GET", "/projects/No%20%1b", "project 'No \\x1b'"),
        ("GET", "/workloads/w99", "workload 'w99'"),
        ("POST", "/workloads/w99/stop", "workload 'w99'"),
        ("GET", "/jobs/w99-1/log", "job 'w99-1'"),
        ("GET", "/jobs/nothing/log", "job 'nothing'"),
        ("DELETE", "/workers/nobody", "worker 'nobody'"),
        ("DELETE", "/nodes/nobody", "node 'nobody'"),
        ("DELETE", "/tokens/nothing", "token 'nothing'"),
        ("GET", "/projects/" + "x" * 500, f"project '{'x' * 80}...'"),
    ],
)
async def test_the_message_names_what_is_missing(
    boxless_service: RunningService, method: str, path: str, what: str
) -> None:
    body = {"branch": "main"} if path.endswith("builds") else None
    answer = await boxless_service.call(method, API + path, body)
    assert answer.status == 404
    assert answer.error["message"].startswith(f"there is no {what}"), answer.error


HALVES = [
    *(("GET", f"/workloads?{name}=%ff", name) for name in (
        "project", "branch", "server", "kind", "state", "result", "limit", "cursor", "number"
    )),
    ("GET", "/workloads?%ff=1", "\\xff"),
    ("GET", "/jobs/w1-1/log?follow=%ff", "follow"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "field"), HALVES)
async def test_a_parameter_that_is_not_text_is_named(
    boxless_service: RunningService, method: str, path: str, field: str
) -> None:
    answer = await boxless_service.call(method, API + path)
    assert (answer.status, answer.error["field"]) in ((422, field), (400, field)), answer.error

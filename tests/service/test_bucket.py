"""Artifacts and logs of a service in a bucket (--log-store s3://...), also while it is away."""

import asyncio
import contextlib
import hashlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.blobs import bucket_client
from boxsched.blobs.folder import shelved
from boxsched.errors import NodeFailed, StoreAway
from boxsched.node.options import S3Address
from boxsched.node.stored_logs import MOVE_AFTER_SECONDS, LogMoving
from boxsched.node.sweeping import LEFT_SECONDS, UNUSED_SECONDS, Sweeping
from boxsched.store.operating.check import check
from tests.contract.s3_server import (
    CREDENTIALS,
    Bucket,
    S3Server,
    bucket_fixture,  # noqa: F401
    s3_fixture,  # noqa: F401
)
from tests.service.running_service import API, PATIENCE_SECONDS, RunningService, job

ZEROS = 20_000_000
MAKE = f"echo one; seq 40000; head -c {ZEROS} /dev/zero > big; echo small > small; printf end"
AWAY = "the object store for artifacts and logs does not answer: try again later"


def options(s3: S3Server, bucket: str, prefix: str = "box/") -> dict[str, Any]:
    return {
        "box_driver": "process",
        "log_store": S3Address(bucket, prefix),
        "log_store_endpoint": s3.url,
    }


@pytest.fixture
async def service(tmp_path: Path, s3: S3Server, bucket: Bucket) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", **options(s3, bucket.name)) as opened:
        await opened.project(
            "web", jobs=[job("make", MAKE, artifacts=["big", "small"], show_commands=False)]
        )
        yield opened


async def built(service: RunningService) -> str:
    build = await service.finished((await service.build())["id"])
    assert build["result"] == "passed", build
    return f"{API}/jobs/{build['jobs'][0]['id']}"


def moving(service: RunningService) -> LogMoving:
    node = service.node
    assert node.files.log_store is not None
    return LogMoving(node.store, node.files.log_store, node.clock, lambda: True)


async def moved(service: RunningService) -> int:
    task = moving(service)
    await task.run_once(service.node.clock.now() + 2 * MOVE_AFTER_SECONDS)
    return task.moved


def chunks(tmp_path: Path) -> int:
    with contextlib.closing(sqlite3.connect(tmp_path / "data/boxsched.sqlite")) as raw:
        return int(raw.execute("SELECT count(*) FROM log_chunk").fetchone()[0])


async def test_artifacts_are_kept_downloaded_and_resumed(
    service: RunningService, bucket: Bucket
) -> None:
    job = await built(service)
    assert len(bucket.keys("box/files/")) == 2
    assert (bucket.keys("box/uploads/"), bucket.uploads()) == ([], [])
    zeros = await service.call("GET", f"{job}/artifacts/big")
    assert (zeros.status, hashlib.sha256(zeros.body).hexdigest()) == (
        200,
        hashlib.sha256(bytes(ZEROS)).hexdigest(),
    )
    rest = await service.call(
        "GET", f"{job}/artifacts/big", headers={"Range": f"bytes={ZEROS - 9}-"}
    )
    assert (rest.status, rest.body) == (206, bytes(9))
    assert (await service.call("GET", f"{job}/artifacts/small")).body == b"small\n"


async def test_a_moved_log_is_read_as_before(
    service: RunningService, bucket: Bucket, tmp_path: Path
) -> None:
    path = f"{await built(service)}/log"
    asked = ["", "?follow=1", "?offset=0", "?offset=3", "?offset=100000", "?timestamps=1"]
    before = [(await service.call("GET", path + query)).body for query in asked]
    assert len(before[0]) > 200_000
    assert await moved(service) == 1
    assert chunks(tmp_path) == 0
    assert len(bucket.keys("box/files/")) == 3
    assert [(await service.call("GET", path + query)).body for query in asked] == before
    assert await check(service.node.options.database_url) == []


async def test_pruning_and_sweeping_remove_objects(service: RunningService, bucket: Bucket) -> None:
    await built(service)
    assert await moved(service) == 1
    bucket.put(f"box/{shelved('left-1')}", b"as after a crash between a file and its row")
    bucket.put("box/uploads/left-2/0000000000000000", b"as after a crash in an upload")
    key = bucket.keys("box/files/")[-1]
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    node = service.node
    await service.project("web", jobs=[job("other", "true")])
    await service.finished((await service.build())["id"])  # what passed last is kept
    late = node.clock.now() + 1
    assert (await node.store.blobs.prune_artifacts(0, late, 100, late))[0] == 2
    assert (await node.store.prune_log_files(0, late, 100))[0] == 1
    sweeping = Sweeping(node.store, node.files, node.clock, lambda: True)

    async def swept(after: float) -> None:
        while await sweeping.run_once(node.clock.now() + after):
            pass

    await swept(UNUSED_SECONDS + 60)
    assert len(bucket.keys("box/files/")) == 2, "the log and the file that is left are young"
    await swept(LEFT_SECONDS + 60)
    assert (bucket.keys(), bucket.uploads()) == (["box/belongs-to"], [])
    assert await check(node.options.database_url) == []


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in caplog.records if one.name == "boxsched.blobs.bucket_client"]


async def test_while_the_bucket_is_away_the_log_stays_and_readers_are_told(
    service: RunningService,
    s3: S3Server,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = await built(service)
    assert await moved(service) == 1
    monkeypatch.setattr(bucket_client, "REQUEST_SECONDS", 0.5)  # it never answers
    s3.freeze()
    try:
        for path in ("log", "log?timestamps=1", "log?offset=0", "log?follow=1", "artifacts/big"):
            answer = await service.call("GET", f"{first}/{path}")
            assert (answer.status, answer.error["message"]) == (503, AWAY), path
        await service.project("web", jobs=[job("make", "echo two", show_commands=False)])
        second = await built(service)
        with pytest.raises(StoreAway):
            await moved(service)
        assert chunks(tmp_path) > 0
        assert (await service.call("GET", f"{second}/log")).body == b"two\n"
    finally:
        s3.thaw()
    monkeypatch.setattr(bucket_client, "REQUEST_SECONDS", 30.0)
    assert await moved(service) == 1
    assert chunks(tmp_path) == 0
    assert (await service.call("GET", f"{second}/log")).body == b"two\n"
    assert (await service.call("GET", f"{first}/log")).body.startswith(b"one\n1\n2\n")
    warned, again = said(caplog)  # one warning a minute, however many requests fail
    box = f"s3://{bucket.name}/box"
    # The server of the tests may have failed once before.
    assert warned.startswith((f"{box} has not answered within 0.5 s", f"{box} cannot answer "))
    assert again.startswith(f"{box} answers again, after ")
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in caplog.text


async def test_a_job_ends_when_the_bucket_answers_again(
    service: RunningService,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bucket_client, "REQUEST_SECONDS", 0.5)  # it never answers
    failed = asyncio.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            failed.set()

    watch = Watch()
    logging.getLogger("boxsched.blobs.bucket_client").addHandler(watch)
    s3.freeze()
    try:
        build = await service.build()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await failed.wait()
        seen = await service.look(build["id"])
        assert seen["state"] == "running", "its artifacts are not stored yet"
    finally:
        logging.getLogger("boxsched.blobs.bucket_client").removeHandler(watch)
        s3.thaw()
    monkeypatch.setattr(bucket_client, "REQUEST_SECONDS", 30.0)
    assert (await service.finished(build["id"]))["result"] == "passed"


def test_an_outage_is_logged_at_its_beginning_every_ten_minutes_and_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    outage = bucket_client.BucketOutage("s3://files", lambda: now)

    def said() -> list[str]:
        found = [one.message for one in caplog.records]
        caplog.clear()
        return found

    outage.over()
    assert said() == []
    for _ in range(1_201):
        outage.failed("does not answer: why")
        now += 1
    assert said() == [
        "s3://files does not answer: why",
        "s3://files does not answer: why (for 600 s)",
        "s3://files does not answer: why (for 1200 s)",
    ]
    outage.over()
    outage.over()
    assert said() == ["s3://files answers again, after 1201 s"]
    for _ in range(60):  # every second request fails
        now += 1
        outage.failed("does not answer: why")
        outage.over()
    assert len(said()) == 2, "once a minute, with its end"


# --- Start ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bucket": "not-there"}, "cannot .* s3://not-there/box: NoSuchBucket"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no credentials for s3://"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "Partial credentials found"),
        ({"AWS_PROFILE": "nobody"}, "The config profile .* could not be found"),
    ],
)
async def test_a_node_that_cannot_use_the_bucket_does_not_start(
    tmp_path: Path,
    s3: S3Server,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str | None],
    message: str,
) -> None:
    name = change.pop("bucket", None) or bucket.name
    for variable, value in change.items():
        if value is None:
            monkeypatch.delenv(variable)
        else:
            monkeypatch.setenv(variable, value)
    with pytest.raises(NodeFailed, match=f"--log-store: .*{message}") as said:
        async with RunningService.open(tmp_path / "data", **options(s3, name)):
            pass
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(said.value)


async def test_a_bucket_that_does_not_answer_at_the_start_is_checked_later(
    tmp_path: Path, s3: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_client, "REQUEST_SECONDS", 0.5)  # it never answers
    bucket.put("box/belongs-to", b"another")
    s3.freeze()
    try:
        opened = RunningService.open(tmp_path / "data", **options(s3, bucket.name))
        service = await opened.__aenter__()
    finally:
        s3.thaw()
    try:
        monkeypatch.setattr(bucket_client, "REQUEST_SECONDS", 30.0)
        files = service.node.files.places.new
        with pytest.raises(StoreAway, match="cannot be used: see the log"):
            await files.write("a", b"x", hashlib.sha256(b"x").hexdigest())
        assert bucket.keys() == ["box/belongs-to"]
        bucket.put("box/belongs-to", (await service.node.store.cluster()).encode())
        await files.write("a", b"x", hashlib.sha256(b"x").hexdigest())
        assert len(bucket.keys("box/files/")) == 1
    finally:
        await opened.__aexit__(None, None, None)

"""A service whose --log-store changes: the database, a folder, a bucket."""

import os
from pathlib import Path
from typing import Any

import pytest

from boxsched.blobs.folder import FolderPlace
from boxsched.errors import Conflict, Invalid
from boxsched.node.file_copying import Copied, StorePlace, copy_files
from boxsched.node.options import S3Address
from boxsched.node.stored_logs import MOVE_AFTER_SECONDS, LogMoving
from tests.contract.conftest import (
    PostgresUnderTest,
    postgres,  # noqa: F401
    postgres_db,  # noqa: F401
)
from tests.contract.s3_server import (
    Bucket,
    S3Server,
    bucket_fixture,  # noqa: F401
    s3_fixture,  # noqa: F401
)
from tests.service.running_service import API, RunningService, job

BIG = 10_000_000  # more than one part of an upload
MAKE = ["head -c 2000000 /dev/urandom > big", "seq 50000"]


def shown(copied: Copied, part: float) -> None:
    assert 0 <= part < 1


async def built(service: RunningService) -> str:
    jobs = [job("make", *MAKE, artifacts=["big"])]
    await service.project("web", jobs=jobs)
    build = await service.finished((await service.build())["id"])
    assert build["result"] == "passed", build
    return f"{API}/jobs/{build['jobs'][0]['id']}"


async def moved(service: RunningService) -> int:
    node = service.node
    assert node.files.log_store is not None
    moving = LogMoving(node.store, node.files.log_store, node.clock, lambda: True)
    await moving.run_once(node.clock.now() + 2 * MOVE_AFTER_SECONDS)
    return moving.moved


async def read(service: RunningService, job: str) -> tuple[list[int], list[int]]:
    """Return status and bytes of its log, its log with times, and its artifact."""
    paths = ("log", "log?offset=0", "log?timestamps=1", "artifacts/big")
    answers = [await service.call("GET", f"{job}/{path}") for path in paths]
    return [one.status for one in answers], [len(one.body) for one in answers]


async def test_logs_and_artifacts_stay_readable_from_the_database_to_a_folder_and_a_bucket(
    tmp_path: Path,
    postgres_db: PostgresUnderTest,  # noqa: F811
    s3: S3Server,
    bucket: Bucket,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options: dict[str, Any] = {"database": postgres_db.url, "box_driver": "process"}
    async with RunningService.open(tmp_path / "data", **options) as service:
        first = await built(service)
        expected = await read(service, first)
    assert expected[0] == [200, 200, 200, 200]

    folder = {**options, "log_store": tmp_path / "folder"}
    async with RunningService.open(tmp_path / "data", **folder) as service:
        second = await built(service)
        assert await moved(service) == 2
        assert [await read(service, one) for one in (first, second)] == [expected, expected]
    assert "older logs" not in caplog.text

    address = S3Address(bucket.name, "box/")
    in_bucket = {**options, "log_store": address, "log_store_endpoint": s3.url}
    async with RunningService.open(tmp_path / "data", **in_bucket) as service:
        assert "older logs or artifacts are not in the --log-store" in caplog.text
        assert (await read(service, second))[0] == [409, 409, 409, 409]
        third = await built(service)
        places = StorePlace(tmp_path / "folder"), StorePlace(address, s3.url)
        assert await copy_files(*places, shown) == Copied(files=3, bytes=len_of(tmp_path))
        assert await copy_files(*places, shown) == Copied(present=3)
        assert await moved(service) == 1
        for one in (first, second, third):
            assert await read(service, one) == expected
    caplog.clear()

    async with RunningService.open(tmp_path / "data", **options) as service:
        assert "logs or artifacts are in a --log-store" in caplog.text
        assert (await read(service, first))[0] == [409, 409, 409, 200]
    back = StorePlace(address, s3.url), StorePlace(tmp_path / "another")
    assert (await copy_files(*back, shown)).files == 5
    caplog.clear()
    other = {**options, "log_store": tmp_path / "another"}
    async with RunningService.open(tmp_path / "data", **other) as service:
        assert [await read(service, one) for one in (first, second, third)] == [expected] * 3
    assert "older logs" not in caplog.text


def len_of(tmp_path: Path) -> int:
    return sum(os.stat(one).st_size for one in (tmp_path / "folder/files").glob("*/*"))


async def test_an_interrupted_copy_is_continued_and_damage_is_noticed(
    tmp_path: Path, s3: S3Server, bucket: Bucket
) -> None:
    source = FolderPlace(tmp_path / "folder")
    await source.open("cluster")
    target = StorePlace(S3Address(bucket.name), s3.url)
    places = StorePlace(tmp_path / "folder"), target
    file = source.path / "files/ca/a"  # by its name
    file.parent.mkdir()
    file.write_bytes(bytes(BIG))
    bucket.put("uploads/a/0000000000000000", b"as an interrupted command leaves it")
    bucket.put("belongs-to", b"cluster")
    assert await copy_files(*places, shown) == Copied(files=1, bytes=BIG)
    assert bucket.get("files/ca/a") == bytes(BIG)
    assert bucket.keys("uploads/") == []
    bucket.put("files/ca/a", b"shorter")
    assert await copy_files(*places, shown) == Copied(files=1, bytes=BIG)


async def test_places_that_cannot_be_meant_are_refused(
    tmp_path: Path, s3: S3Server, bucket: Bucket
) -> None:
    await FolderPlace(tmp_path / "folder").open("cluster")
    await FolderPlace(tmp_path / "other").open("another")
    folder, none = StorePlace(tmp_path / "folder"), StorePlace(tmp_path / "none")
    with pytest.raises(Invalid, match="the same place"):
        await copy_files(folder, folder, shown)
    with pytest.raises(Invalid, match="has never been a --log-store"):
        await copy_files(none, folder, shown)
    with pytest.raises(Conflict, match="belongs to another installation"):
        await copy_files(folder, StorePlace(tmp_path / "other"), shown)
    with pytest.raises(Conflict, match="NoSuchBucket"):
        await copy_files(folder, StorePlace(S3Address("not-there"), s3.url), shown)
    with pytest.raises(Conflict, match="NoSuchBucket"):
        await copy_files(StorePlace(S3Address("not-there"), s3.url), folder, shown)
    assert not (tmp_path / "none").exists()

"""One contract for the places of contents: a folder, the database, and a bucket."""

import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.blobs.bucket import PART_BYTES, BucketPlace
from boxsched.blobs.counted import OPERATIONS, CountedStore
from boxsched.blobs.database import DatabasePlace
from boxsched.blobs.folder import FolderPlace
from boxsched.blobs.places import BlobPlace, ContentGone, LogStore, WrongContent, WrongStore
from boxsched.clock import Clock
from boxsched.errors import StoreAway
from boxsched.protocol.artifacts import PART_BYTES as SENT_BYTES
from boxsched.store import Store
from tests.contract.conftest import PostgresUnderTest, SqliteUnderTest
from tests.contract.s3_server import (
    Bucket,
    S3Server,
    bucket_fixture,  # noqa: F401
    s3_fixture,  # noqa: F401
)

BIG = b"".join(n.to_bytes(8, "big") for n in range((PART_BYTES * 2 + SENT_BYTES // 2) // 8))
SMALL = b"some bytes"


@contextlib.asynccontextmanager
async def opened(url: str, bucket: str) -> AsyncIterator[BucketPlace]:
    place = BucketPlace(bucket, "box/", url)
    await place.open("cluster")
    yield place
    await place.close()


@pytest.fixture
async def bucket_place(s3: S3Server, bucket: Bucket) -> AsyncIterator[BucketPlace]:
    async with opened(s3.url, bucket.name) as place:
        yield place


@pytest.fixture
async def another(s3: S3Server, bucket: Bucket) -> AsyncIterator[BucketPlace]:
    """Another node at the same bucket."""
    async with opened(s3.url, bucket.name) as place:
        yield place


@pytest.fixture
async def folder_place(tmp_path: Path) -> FolderPlace:
    place = FolderPlace(tmp_path / "store")
    await place.open("cluster")
    return place


@pytest.fixture
async def sqlite_place(sqlite_db: SqliteUnderTest) -> DatabasePlace:
    return DatabasePlace((await sqlite_db.open()).blobs, Clock().now)


@pytest.fixture
async def postgres_place(postgres_db: PostgresUnderTest) -> DatabasePlace:
    store: Store = await postgres_db.open()
    return DatabasePlace(store.blobs, Clock().now)


@pytest.fixture(params=["folder", "sqlite", "postgres", "bucket"])
def place(request: pytest.FixtureRequest) -> BlobPlace:
    found: BlobPlace = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture(params=["folder", "bucket"])
def log_store(request: pytest.FixtureRequest) -> LogStore:
    found: LogStore = request.getfixturevalue(f"{request.param}_place")
    return found


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def send(place: BlobPlace, file: str, data: bytes, begin: int = 0) -> None:
    """Send as a worker does: each part begins where the last answer said."""
    while begin < len(data):
        begin = await place.append(file, begin, data[begin : begin + SENT_BYTES])


async def whole(place: BlobPlace, file: str) -> bytes:
    found = b""
    while data := await place.read(file, len(found), place.read_bytes):
        found += data
    return found


async def test_a_small_file_is_stored_at_once(place: BlobPlace) -> None:
    await place.write("a", SMALL, sha(SMALL))
    await place.write("a", SMALL, sha(SMALL))  # a repeated request
    assert await place.read("a", 0, 100) == SMALL
    assert await place.read("a", 5, 3) == SMALL[5:8]
    assert await place.read("a", len(SMALL), 100) == b""
    with pytest.raises(WrongContent):
        await place.write("b", SMALL, sha(b"other"))
    with pytest.raises(ContentGone):
        await place.read("b", 0, 100)


async def test_a_large_file_arrives_in_parts(place: BlobPlace) -> None:
    await send(place, "big", BIG)
    await place.finish("big", len(BIG), sha(BIG))
    assert await whole(place, "big") == BIG
    at = PART_BYTES - 3  # as a download that was cut
    found = await place.read("big", at, 6)  # at least one byte
    assert found
    assert BIG[at : at + 6].startswith(found)


async def test_parts_of_any_size_are_joined(place: BlobPlace) -> None:
    at = 0
    for size in itertools.cycle((SENT_BYTES, 700_001, 3)):
        if at == len(BIG):
            break
        at = await place.append("odd", at, BIG[at : at + size])
    await place.finish("odd", len(BIG), sha(BIG))
    assert sha(await whole(place, "odd")) == sha(BIG)


async def test_a_part_elsewhere_changes_nothing(place: BlobPlace) -> None:
    assert await place.append("a", 3, b"xyz") == 0
    assert await place.append("a", 0, b"some ") == 5
    assert await place.append("a", 0, b"some ") == 5
    assert await place.append("a", 9, b"bytes") == 5
    assert await place.append("a", 5, b"bytes") == 10
    await place.finish("a", 10, sha(SMALL))
    assert await place.append("a", 5, b"bytes") == 10
    await place.finish("a", 10, sha(SMALL))
    assert await whole(place, "a") == SMALL


@pytest.mark.parametrize("data", [SMALL, BIG])
async def test_wrong_content_is_refused_and_may_come_again(place: BlobPlace, data: bytes) -> None:
    await send(place, "a", bytes(len(data)))
    with pytest.raises(WrongContent):
        await place.finish("a", len(data), sha(data))
    await send(place, "a", data)
    await place.finish("a", len(data), sha(data))
    assert await whole(place, "a") == data


async def test_an_empty_file(place: BlobPlace) -> None:
    if isinstance(place, DatabasePlace):
        pytest.skip("an empty file has no parts; the row of its content is enough")
    await place.write("empty", b"", sha(b""))
    assert await place.read("empty", 0, 100) == b""


async def test_removed_and_abandoned_files_are_gone(place: BlobPlace) -> None:
    await place.write("a", SMALL, sha(SMALL))
    await place.remove("a")
    await place.remove("a")
    with pytest.raises(ContentGone):
        await place.read("a", 0, 1)
    await send(place, "b", BIG)
    await place.abandon("b")
    await place.abandon("b")
    assert await place.append("b", 0, b"x") == 1


# --- Folder and bucket ------------------------------------------------------------------------


async def old(store: LogStore, before: float) -> set[str]:
    found: set[str] = set()
    after: str | None = ""
    while after is not None:
        names, after = await store.old_files(after, before)
        found |= set(names)
    return found


async def test_old_files_are_listed_and_old_uploads_removed(log_store: LogStore) -> None:
    for name in ("a", "b", "c"):
        await log_store.write(name, SMALL, sha(SMALL))
    await send(log_store, "begun", SMALL)
    await send(log_store, "half", BIG)
    now = Clock().now()
    assert await old(log_store, now - 3600) == set()
    assert await old(log_store, now + 3600) == {"a", "b", "c"}
    assert await log_store.remove_old_uploads(now - 3600) == 0
    assert await log_store.remove_old_uploads(now + 3600) >= 2
    assert await log_store.remove_old_uploads(now + 3600) == 0
    assert await old(log_store, now + 3600) == {"a", "b", "c"}


async def test_a_store_of_another_installation_is_refused(
    tmp_path: Path,
    folder_place: FolderPlace,
    s3: S3Server,
    bucket: Bucket,
    bucket_place: BucketPlace,
) -> None:
    with pytest.raises(WrongStore, match="belongs to another installation"):
        await FolderPlace(tmp_path / "store").open("another")
    with pytest.raises(WrongStore, match="belongs to another installation: use another prefix"):
        await BucketPlace(bucket.name, "box/", s3.url).open("another")
    beside = BucketPlace(bucket.name, "", s3.url)
    await beside.open("another")
    await beside.close()


async def test_the_owner_and_the_length_of_a_file(
    tmp_path: Path, log_store: LogStore, s3: S3Server, bucket: Bucket
) -> None:
    assert await log_store.owner() == "cluster"
    await log_store.write("a", SMALL, sha(SMALL))
    await send(log_store, "begun", SMALL)
    assert await log_store.length("a") == len(SMALL)
    assert [await log_store.length(name) for name in ("begun", "none")] == [None, None]
    new = BucketPlace(bucket.name, "new/", s3.url)
    assert (await new.owner(), await FolderPlace(tmp_path / "new").owner()) == (None, None)
    await new.close()
    assert not (tmp_path / "new").exists()


async def test_calls_are_counted_with_their_failures_seconds_and_bytes(log_store: LogStore) -> None:
    store = CountedStore(log_store)
    await store.write("a", SMALL, sha(SMALL))
    await store.append("b", 0, SMALL)
    await store.finish("b", len(SMALL), sha(SMALL))
    assert await store.read("a", 5, 100) == SMALL[5:]
    assert await store.length("a") == len(SMALL)
    with pytest.raises(ContentGone):
        await store.read("none", 0, 1)
    with pytest.raises(WrongContent):  # the caller's mistake
        await store.write("c", SMALL, sha(b"other"))
    await store.remove("a")
    await store.abandon("b")
    await store.old_files("", 0)
    await store.remove_old_uploads(0)
    figures = store.figures
    assert figures.requests == Counter(OPERATIONS) + Counter(["read", "write"])
    assert figures.failures == {"read": 1}
    assert figures.bytes == {"write": len(SMALL), "append": len(SMALL), "read": len(SMALL) - 5}
    assert all(figures.seconds[name] > 0 for name in OPERATIONS)


# --- The bucket -------------------------------------------------------------------------------


async def test_a_large_file_is_one_object_of_several_parts(
    bucket: Bucket, bucket_place: BucketPlace
) -> None:
    await send(bucket_place, "big", BIG)
    assert len(bucket.uploads()) == 1
    assert len(bucket.keys("box/uploads/big/")) == 1, "only what is behind the parts"
    await bucket_place.finish("big", len(BIG), sha(BIG))
    (key,) = bucket.keys("box/files/")
    assert bucket.get(key) == BIG
    assert bucket.client.head_object(Bucket=bucket.name, Key=key)["ETag"].endswith('-3"')
    assert (bucket.uploads(), bucket.keys("box/uploads/")) == ([], [])


@pytest.mark.parametrize("at", [SENT_BYTES * 3, PART_BYTES, PART_BYTES + SENT_BYTES, len(BIG)])
async def test_another_node_continues_at_the_same_byte(
    bucket: Bucket, bucket_place: BucketPlace, another: BucketPlace, at: int
) -> None:
    await send(bucket_place, "big", BIG[:at])
    await bucket_place.close()  # as after kill -9: everything that it knew is gone
    assert await another.append("big", len(BIG) + 1, b"?") == at
    await send(another, "big", BIG, at)
    await another.finish("big", len(BIG), sha(BIG))
    assert await whole(another, "big") == BIG
    assert (bucket.uploads(), bucket.keys("box/uploads/")) == ([], [])


async def test_requests_that_change_between_nodes_make_one_file(
    bucket: Bucket, bucket_place: BucketPlace, another: BucketPlace
) -> None:
    """As behind a load balancer that gives each request to another node."""
    nodes = itertools.cycle((bucket_place, another))
    at, requests = 0, 0
    while at < len(BIG):
        at = await next(nodes).append("big", at, BIG[at : at + SENT_BYTES])
        requests += 1
    assert requests == -(-len(BIG) // SENT_BYTES), "no byte was sent twice"
    for node in (bucket_place, another):
        await node.finish("big", len(BIG), sha(BIG))
        assert await whole(node, "big") == BIG


async def test_what_another_node_has_stored_is_not_believed(
    bucket: Bucket, bucket_place: BucketPlace, another: BucketPlace
) -> None:
    """A worker that gives each node something else stores nothing."""
    await send(bucket_place, "big", bytes(PART_BYTES + SENT_BYTES))
    await send(another, "big", BIG, PART_BYTES + SENT_BYTES)
    with pytest.raises(WrongContent):
        await another.finish("big", len(BIG), sha(BIG))
    with pytest.raises(ContentGone):
        await another.read("big", 0, 1)
    assert (bucket.uploads(), bucket.keys("box/uploads/")) == ([], [])


async def test_an_upload_that_was_removed_begins_again(
    bucket: Bucket, bucket_place: BucketPlace, another: BucketPlace
) -> None:
    await send(bucket_place, "big", BIG[:PART_BYTES])
    assert await another.remove_old_uploads(Clock().now() + 3600) > 0
    with pytest.raises(StoreAway):
        await send(bucket_place, "big", BIG, PART_BYTES)
    begin = await bucket_place.append("big", len(BIG), b"?")
    assert begin < PART_BYTES, "what is behind the lost part does not count"
    await send(bucket_place, "big", BIG, begin)
    await bucket_place.finish("big", len(BIG), sha(BIG))
    assert await whole(bucket_place, "big") == BIG

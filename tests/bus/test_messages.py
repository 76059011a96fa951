"""The messages between nodes through Redis: their exact form and their limits.

Nodes of two versions share a server during an upgrade, so the bytes written here never change.
"""

import msgspec
import pytest

from boxsched.cluster.redis_bus import RedisBus
from boxsched.cluster.redis_messages import (
    ENTRY_BYTES,
    ENTRY_WORKERS,
    FIELD,
    GROUP,
    MESSAGE_BYTES,
    MESSAGE_SHARDS,
    NODE_LENGTH,
    STREAM_ENTRIES,
    STREAM_SECONDS,
    KeyNames,
    NewsMessage,
    entry,
    hinting,
    news,
    node_name,
    read_news,
)
from boxsched.model import WorkerId

GREATEST = 2**63 - 1


def test_keys_start_with_the_prefix_of_the_cluster() -> None:
    names = KeyNames("p")
    assert (names.channel, names.streams, names.stream("a")) == (
        "p:news", "p:streams", "p:hints:a",
    )  # fmt: skip
    assert (GROUP, FIELD) == ("nodes", b"w")


def test_a_message_about_shards_has_these_bytes() -> None:
    written = news("a", [1, 2], {3: 4})
    assert written == b"\x94\xa4news\xa1a\x92\x01\x02\x81\x03\x04"
    assert read_news(written) == NewsMessage("a", [1, 2], {3: 4})


def test_a_hint_is_sent_with_these_commands() -> None:
    assert hinting(KeyNames("p"), "a", [WorkerId(1), WorkerId(300)]) == [
        ("XADD", "p:hints:a", "MAXLEN", "~", 10_000, "*", b"w", b"\x92\x01\xcd\x01\x2c"),
        ("EXPIRE", "p:hints:a", 3_600),
        ("SADD", "p:streams", "a"),
    ]
    assert hinting(KeyNames("p"), "a", []) == [
        ("EXPIRE", "p:hints:a", 3_600),
        ("SADD", "p:streams", "a"),
    ]
    assert entry([b"w", b"\x92\x01\xcd\x01\x2c"]) == [1, 300]


def test_the_limits_that_all_nodes_use() -> None:
    """A node drops larger messages, so no node may raise them alone."""
    assert (MESSAGE_SHARDS, MESSAGE_BYTES) == (1_000, 32 * 1024)
    assert (ENTRY_WORKERS, ENTRY_BYTES, NODE_LENGTH) == (200, 1_816, 200)
    assert (STREAM_ENTRIES, STREAM_SECONDS) == (10_000, 3_600)


def test_the_longest_message_about_shards_is_read() -> None:
    shards = range(GREATEST - MESSAGE_SHARDS, GREATEST)
    longest = news("\U0001f642" * NODE_LENGTH, shards, dict.fromkeys(shards, GREATEST))
    read = read_news(longest)
    assert read is not None and len(read.woken) == len(read.committed) == MESSAGE_SHARDS
    assert read_news(news("a", [*shards, 1], {})) is None
    assert read_news(news("a", [], {**dict.fromkeys(shards, 1), 1: 1})) is None
    assert read_news(news("x" * (NODE_LENGTH + 1), [], {})) is None
    assert read_news(news("a", [0], {0: 0})) == NewsMessage("a", [0], {0: 0})
    assert read_news(longest.decode("latin-1")) is None, "not bytes"


def test_the_longest_entry_of_a_stream_is_read() -> None:
    workers = [GREATEST - n for n in range(ENTRY_WORKERS)]
    assert entry([FIELD, msgspec.msgpack.encode(workers)]) == workers
    for wrong in ([*workers, 1], [], [0]):
        assert entry([FIELD, msgspec.msgpack.encode(wrong)]) is None
    assert entry([b"x", msgspec.msgpack.encode([1])]) is None


@pytest.mark.parametrize("name", ["a", "x" * NODE_LENGTH, "\U0001f642" * NODE_LENGTH])
def test_a_member_of_the_set_of_streams_names_a_node(name: str) -> None:
    assert node_name(name.encode()) == name


@pytest.mark.parametrize(
    "data", [b"", b"x" * (NODE_LENGTH + 1), b"\xff", "a", None, b"x" * (4 * NODE_LENGTH + 1)]
)
def test_any_other_member_names_none(data: object) -> None:
    assert node_name(data) is None


def test_what_waits_to_be_sent_is_dropped_when_the_server_is_away() -> None:
    """Nodes poll then; what was said of before would come too late."""
    bus = RedisBus("redis://127.0.0.1:1/0", prefix="p", node="a")
    bus._breaker.mend()
    bus.wake(1)
    assert bus.counts.dropped == 0
    bus._trip(OSError("away for the test"))
    assert bus.counts.dropped == 1

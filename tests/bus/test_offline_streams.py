"""Streams of hints over a scripted connection: which commands are sent, and what replies mean."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from boxsched.cluster import redis_streams
from boxsched.cluster.bus import Counts
from boxsched.cluster.redis_messages import (
    GROUP,
    Command,
    hinting,
)
from boxsched.cluster.redis_streams import ATTEMPTS, Claims, Entries, OwnStream
from boxsched.model import WorkerId
from tests.bus.scripted import (
    BUSY_GROUP,
    FOREIGN,
    KNOWN,
    NAMES,
    NO_GROUP,
    CallRecorder,
    ScriptedConnection,
    ScriptEnded,
    entry_of,
    parts,
)


def read_of(where: str, *options: Any) -> Command:
    return (
        "XREADGROUP", "GROUP", GROUP, "me", "COUNT", redis_streams.READ_ENTRIES, *options,
        "STREAMS", "p:hints:me", where,
    )  # fmt: skip


PENDING, NEW = read_of("0"), read_of(">", "BLOCK", 500)


async def test_pending_entries_are_read_first_and_acknowledged_with_the_next_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("boxsched.cluster.redis_streams.asyncio.sleep", sleep)
    both = [[b"p:hints:me", [entry_of(b"1-0", 5, 6), [b"2-0", None], [b"3-0", [b"w", b"\xff"]]]]]
    done: list[Command] = [
        ("XACK", "p:hints:me", GROUP, b"1-0", b"2-0", b"3-0"),
        ("XDEL", "p:hints:me", b"1-0", b"2-0", b"3-0"),
    ]
    line = ScriptedConnection(
        [both], [both], [3, 3, [[b"p:hints:me", []]]], [None], [NO_GROUP], ["OK", 1, 1, 1]
    )
    hearing, counts = CallRecorder(away=1), Counts()
    with pytest.raises(ScriptEnded):
        await OwnStream(*parts(line, hearing, counts)).run()
    create = [("XGROUP", "CREATE", "p:hints:me", GROUP, "0", "MKSTREAM"), *KNOWN]
    assert line.asked == [[PENDING], [PENDING], [*done, PENDING], [NEW], [NEW], create, [NEW]]
    assert line.blocking == [0, 0, 0, 0.5, 0.5, 0, 0.5]
    assert hearing.calls == [[5, 6], [5, 6], "missed"]
    assert pauses == [redis_streams.RETRY_SECONDS]
    assert (counts.looked, counts.refused, counts.recreated) == (3, 1, 1)


@pytest.mark.parametrize("reply", [FOREIGN, NO_GROUP, ResponseError("UNBLOCKED the stream")])
async def test_a_missing_stream_is_created_again(reply: ResponseError) -> None:
    line = ScriptedConnection([reply], [BUSY_GROUP, 1, 1, 1])
    hearing, counts = CallRecorder(), Counts()
    with pytest.raises(ScriptEnded):
        await OwnStream(*parts(line, hearing, counts)).run()
    assert hearing.calls == ["missed"]
    assert counts.recreated == 1


async def test_foreign_keys_are_removed_before_the_stream_is_created() -> None:
    line = ScriptedConnection([FOREIGN, FOREIGN, 1, 1], [2], ["OK", 1, 1, 1])
    counts = Counts()
    await OwnStream(*parts(line, CallRecorder(), counts)).begin()
    assert line.asked[1] == [("UNLINK", "p:hints:me", "p:streams")]
    assert line.asked[2] == line.asked[0]
    assert counts.refused == 2
    again = ScriptedConnection(["OK", ResponseError("OOM"), 1, 1])
    with pytest.raises(ResponseError, match="OOM"):
        await OwnStream(*parts(again, CallRecorder(), counts)).begin()


async def test_an_unreadable_stream_is_removed_after_a_number_of_attempts() -> None:
    line, counts = ScriptedConnection(), Counts()
    stream = OwnStream(*parts(line, CallRecorder(), counts))
    for _ in range(ATTEMPTS):
        line.replies = [["OK", 1, 1, 1], TimeoutError("too large")]
        await stream.begin()
        with pytest.raises(TimeoutError):
            await stream.run()
    assert counts.refused == 0
    line.asked.clear()
    line.replies = [[1], ["OK", 1, 1, 1]]
    await stream.begin()
    assert line.asked[0] == [("UNLINK", "p:hints:me")]
    assert counts.refused == 1
    line.replies = [["OK", 1, 1, 1]]
    await stream.begin()
    assert counts.refused == 1, "counted anew"


def claims(line: ScriptedConnection, hearing: CallRecorder, counts: Counts) -> Claims:
    return Claims(*parts(line, hearing, counts), visibility=5.0)


def claim_of(owner: str) -> list[Command]:
    return [
        (
            "XAUTOCLAIM", f"p:hints:{owner}", GROUP, "me", 5000, "0-0",
            "COUNT", redis_streams.READ_ENTRIES,
        )
    ]  # fmt: skip


def members(*names: bytes) -> list[Any]:
    return [1, 1, 1, list(names)]


async def test_hints_of_a_dead_node_are_processed_and_passed_on() -> None:
    hearing = CallRecorder(places={1: "me", 2: "dead", 3: "third"})
    left = [b"0-0", [entry_of(b"1-0", 1, 2, 3), [b"2-0", [b"x", b""]]], []]
    line, counts = (
        ScriptedConnection(members(b"me", b"dead", b"\xff"), [left], [1] * 5, [1]),
        Counts(),
    )
    assert await claims(line, hearing, counts).claim_once() == 2
    assert line.asked[0] == [*KNOWN, ("SRANDMEMBER", "p:streams", redis_streams.KNOWN_STREAMS)]
    assert line.asked[1] == claim_of("dead")
    assert line.asked[2] == [
        *hinting(NAMES, "third", [WorkerId(3)]),
        ("XACK", "p:hints:dead", GROUP, b"1-0", b"2-0"),
        ("XDEL", "p:hints:dead", b"1-0", b"2-0"),
    ]
    assert line.asked[3] == [("SREM", "p:streams", b"\xff")]
    assert hearing.calls == [[1, 2, 3]]
    assert (counts.claimed, counts.passed_on, counts.refused) == (2, 1, 2)


async def test_failed_look_ups_stay_pending() -> None:
    left = [b"0-0", [entry_of(b"1-0", 1)], []]
    line, counts = ScriptedConnection(members(b"dead"), [left]), Counts()
    assert await claims(line, CallRecorder(away=1), counts).claim_once() == 0
    assert len(line.asked) == 2, "nothing is acknowledged"
    assert counts.claimed == 0


async def test_a_stream_without_a_group_or_of_another_type_is_forgotten() -> None:
    for reply, removed, refused in (
        (NO_GROUP, [("SREM", "p:streams", "dead")], 0),
        (FOREIGN, [("SREM", "p:streams", "dead"), ("UNLINK", "p:hints:dead")], 1),
    ):
        line, counts = ScriptedConnection(members(b"dead"), [reply], [1, 1]), Counts()
        assert await claims(line, CallRecorder(), counts).claim_once() == 0
        assert line.asked[2] == removed
        assert counts.refused == refused
    line = ScriptedConnection(members(b"dead"), [NO_GROUP], [ResponseError("OOM")])
    with pytest.raises(ResponseError, match="OOM"):
        await claims(line, CallRecorder(), Counts()).claim_once()


async def test_a_foreign_set_of_streams_is_removed() -> None:
    line, counts = ScriptedConnection([FOREIGN, 1, 1, FOREIGN], [1]), Counts()
    assert await claims(line, CallRecorder(), counts).claim_once() == 0
    assert line.asked[1] == [("UNLINK", "p:streams")]
    assert counts.refused == 1


async def test_another_nodes_unreadable_stream_is_removed_after_a_number_of_attempts() -> None:
    line, counts = ScriptedConnection(), Counts()
    claiming = claims(line, CallRecorder(), counts)
    for _ in range(ATTEMPTS):
        line.replies = [members(b"dead"), TimeoutError("too large")]
        with pytest.raises(TimeoutError):
            await claiming.claim_once()
    assert counts.refused == 0
    line.replies = [members(b"dead"), [1, 1]]
    assert await claiming.claim_once() == 0
    assert line.asked[-1] == [("SREM", "p:streams", "dead"), ("UNLINK", "p:hints:dead")]
    assert counts.refused == 1
    line.replies = [members(b"dead"), [[b"0-0", [], []]]]
    assert await claiming.claim_once() == 0
    assert line.asked[-1] == claim_of("dead"), "counted anew"


async def test_a_round_takes_place_twice_in_each_visibility_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("boxsched.cluster.redis_streams.asyncio.sleep", sleep)
    line = ScriptedConnection(members(), members())
    with pytest.raises(ScriptEnded):
        await claims(line, CallRecorder(), Counts()).run()
    assert pauses == [2.5] * 3
    assert line.opened == 1, "closed between two rounds"


def test_nothing_read_is_nothing_to_acknowledge() -> None:
    assert Entries.of(None).done("s") == []

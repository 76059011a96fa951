"""Bounds, figures and promises of the gateway's parts, each without a server or a database."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from aiohttp import WSCloseCode

from boxsched.errors import StoreAway
from boxsched.gateway import message_queue, worker_sender
from boxsched.gateway.entry import Entry, NotLetIn, refuse
from boxsched.gateway.figures import Figures, Times
from boxsched.gateway.gateway import Gateway
from boxsched.gateway.lookups import LookUps
from boxsched.gateway.message_queue import MessageQueue
from boxsched.gateway.outputs import within
from boxsched.gateway.presence import MAX_UNANSWERED_BEATS, Beats, Ends
from boxsched.gateway.received import ProtocolViolation, read_hello, read_version
from boxsched.gateway.worker_sender import WorkerSender
from boxsched.gateway.worker_socket import Slow
from boxsched.model import WorkerId
from boxsched.protocol import inbox, wire
from boxsched.protocol.workers import Connected, WorkerConnection
from boxsched.store.errors import InvariantRefused, NotYet
from boxsched.store.records import Token
from boxsched.store.store import Store
from boxsched.worker.agent.spool import MARKS_BYTES
from tests.contract.world import NOW
from tests.gateway.house import PATIENCE_SECONDS

ME = WorkerId(1)
HELLO = wire.Hello(wire.VERSION, "own w", "w", ("default",), "", "")
TOKEN = Token("token-1", "its digest", "worker", "", NOW)
AT_ONCE = Times(first_retry=0.0, longest_retry=0.0)


# --- Output -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "size", "kept"),
    [(0, 10, 10), (90, 10, 10), (91, 10, 9), (99, 10, 1), (100, 10, 0), (200, 10, 0)],
)
def test_a_chunk_is_kept_up_to_the_limit(offset: int, size: int, kept: int) -> None:
    text = within(offset, b"#" * size, 100 - MARKS_BYTES)
    assert text.count(b"#") == kept
    assert (b"rest was cut" in text) == (0 < kept < size)


def test_the_mark_says_the_limit_in_plain_units() -> None:
    for limit, said in ((3 << 20, b"3 MiB"), ((3 << 20) + 1, b"3145729 bytes"), (7, b"7 bytes")):
        cut = within(limit, b"x" * (MARKS_BYTES + 1), limit)
        assert b"this node keeps " + said + b" of a log" in cut


# --- What waits for the store -------------------------------------------------------------------


async def test_a_queue_that_was_written_has_all_its_room_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_queue, "MAX_WAITING_BYTES", 4 * message_queue.LEAST_BYTES)
    groups: list[list[int]] = []
    written = asyncio.Event()

    async def store(group: list[int]) -> None:
        groups.append(group)
        written.set()

    queue: MessageQueue[int] = MessageQueue(store, AT_ONCE)
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        for first in (0, 4, 8):
            written.clear()
            for number in range(4):  # exactly the bound
                await queue.put(first + number, 1)
            await written.wait()
    running.cancel()
    assert groups == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


async def test_a_large_message_counts_as_large_as_it_is() -> None:
    queue: MessageQueue[int] = MessageQueue(_never, AT_ONCE)
    await queue.put(1, message_queue.MAX_WAITING_BYTES)
    more = asyncio.create_task(queue.put(2, 1))
    await asyncio.sleep(0)
    assert not more.done()
    more.cancel()


async def _never(group: list[int]) -> None:
    raise AssertionError("the queue is not run")


async def test_what_the_store_did_not_take_is_written_again_before_the_next() -> None:
    groups: list[list[int]] = []
    done = asyncio.Event()

    async def store(group: list[int]) -> None:
        groups.append(list(group))
        if len(groups) == 1:
            await queue.put(2, 1)
        if len(groups) < 3:
            raise StoreAway("away for the test")
        if len(groups) == 4:
            done.set()

    queue: MessageQueue[int] = MessageQueue(store, AT_ONCE)
    await queue.put(1, 1)
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
    running.cancel()
    assert groups == [[1], [1], [1], [2]]


# --- What waits to be sent ----------------------------------------------------------------------


class Line:
    """Takes what is sent, when ``takes`` is set."""

    def __init__(self) -> None:
        self.sent: list[list[wire.FromNode]] = []
        self.takes = asyncio.Event()
        self.asked = asyncio.Event()
        self.cuts = 0
        self.hung_up: list[tuple[int, str]] = []
        self.slow = False

    async def send(self, texts: list[bytes]) -> None:
        self.asked.set()
        if self.slow:
            raise Slow("for the test")
        await self.takes.wait()
        self.sent.append([wire.from_node.decode(text) for text in texts])

    async def hang_up(self, code: WSCloseCode, reason: str) -> None:
        self.hung_up.append((code, reason))

    def cut(self) -> None:
        self.cuts += 1

    address = "192.0.2.7"
    gone = False


async def test_texts_go_before_acks_and_the_level_comes_last() -> None:
    line = Line()
    line.takes.set()
    sender = WorkerSender(cast(Any, line))
    sender.level(())
    sender.ack(wire.Ack(1))
    sender.ack(wire.Ack(2))
    sender.text(wire.encode(wire.Leave()))
    assert list(map(wire.from_node.decode, sender._take())) == [
        wire.Leave(),
        wire.Ack(1),
        wire.Ack(2),
        wire.Level(()),
    ]
    assert sender._take() == [], "each goes once"


async def test_each_kind_of_message_wakes_the_sender() -> None:
    line = Line()
    line.takes.set()
    sender = WorkerSender(cast(Any, line))
    running = asyncio.create_task(sender.run())
    sends: tuple[Callable[[], None], ...] = (
        lambda: sender.text(wire.encode(wire.Leave())),
        lambda: sender.ack(wire.Ack(1)),
        lambda: sender.level(()),
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        for send in sends:
            line.asked.clear()
            send()
            await line.asked.wait()
    running.cancel()
    assert line.sent == [[wire.Leave()], [wire.Ack(1)], [wire.Level(())]]


async def test_there_is_room_for_so_many_acks_until_they_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_sender, "MAX_UNSENT_ACKS", 3)
    line = Line()
    sender = WorkerSender(cast(Any, line))
    sender.ack(wire.Ack(1))
    sender.ack(wire.Ack(2))
    assert sender._room.is_set()
    sender.ack(wire.Ack(3))
    assert not sender._room.is_set()
    running = asyncio.create_task(sender.run())
    line.takes.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await sender.room()
    running.cancel()
    assert line.sent == [[wire.Ack(1), wire.Ack(2), wire.Ack(3)]]


# --- Heartbeats and ends ------------------------------------------------------------------------


class Beating:
    problem: str | None = None

    def __init__(self, worker: int = 1, problem: str | None = None) -> None:
        self.connection = WorkerConnection(WorkerId(worker), 1)
        self.problem = problem
        self.acked: list[int] = []
        self.ended: list[tuple[int, str]] = []

    def ack(self, number: int) -> None:
        self.acked.append(number)

    def end(self, code: WSCloseCode, reason: str) -> None:
        self.ended.append((code, reason))


class BeatStore:
    """Knows the connections of ``alive``."""

    def __init__(self, *alive: int) -> None:
        self.alive = {WorkerId(each) for each in alive}
        self.asked: list[tuple[list[WorkerId], float, dict[WorkerId, str]]] = []
        self.away = 0
        self.wrote = asyncio.Event()

    async def beat(
        self, connections: Sequence[WorkerConnection], lost_after: float, problems: Any
    ) -> set[WorkerId]:
        if self.away:
            self.away -= 1
            raise StoreAway("away for the test")
        self.asked.append(([each.worker for each in connections], lost_after, problems))
        self.wrote.set()
        return self.alive


async def test_heartbeats_are_written_with_what_was_promised_and_what_is_wrong() -> None:
    store = BeatStore(1, 2)
    beats = Beats(cast(Any, store), 1.0, lambda link: link is not gone, 77.0)
    links = [Beating(1), Beating(2, "disk full"), Beating(3)]
    gone = Beating(4)
    for number, link in enumerate((*links, gone, links[0]), 1):
        beats.add(link, number)
    await beats.write()
    assert store.asked == [([1, 2, 3], 77.0, {2: "disk full"})]
    assert [link.acked for link in (*links, gone)] == [[1, 5], [2], [], []]
    assert [link.ended for link in (*links, gone)] == [
        [],
        [],
        [(WSCloseCode.TRY_AGAIN_LATER, "not_its_connection")],
        [],
    ]
    await beats.write()
    assert len(store.asked) == 1, "nothing was left to write"


async def test_only_so_many_heartbeats_wait_for_their_answers() -> None:
    store, link = BeatStore(1), Beating()
    beats = Beats(cast(Any, store), 1.0, lambda link: True, 60.0)
    for number in range(MAX_UNANSWERED_BEATS + 5):
        beats.add(link, number)
    await beats.write()
    assert link.acked == list(range(5, MAX_UNANSWERED_BEATS + 5))


async def test_heartbeats_go_on_being_written_after_the_store_was_away() -> None:
    store, link = BeatStore(1), Beating()
    store.away = 2
    beats = Beats(cast(Any, store), 0.0, lambda link: True, 60.0)
    beats.add(link, 1)
    running = asyncio.create_task(beats.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await store.wrote.wait()
        store.wrote.clear()
        beats.add(link, 2)
        await store.wrote.wait()
    running.cancel()
    assert link.acked[:1] == [1]


async def test_ends_are_told_each_worker_once_and_again_after_the_store_was_away() -> None:
    told: list[list[WorkerConnection]] = []
    done = asyncio.Event()

    class Told:
        away = 2

        async def disconnect_workers(self, connections: list[WorkerConnection]) -> None:
            if self.away:
                self.away -= 1
                raise StoreAway("away for the test")
            told.append(connections)
            done.set()

    ends = Ends(cast(Any, Told()), AT_ONCE)
    await ends.write()  # nothing to tell: the store is not asked
    gone = [WorkerConnection(WorkerId(each), 3) for each in (1, 2)]
    for connection in gone:
        ends.add(connection)
    running = asyncio.create_task(ends.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
        assert told == [gone]
        done.clear()
        ends.add(WorkerConnection(ME, 4))
        await done.wait()
    running.cancel()
    assert told == [gone, [WorkerConnection(ME, 4)]]


# --- Look-ups -----------------------------------------------------------------------------------


async def test_a_look_up_counts_the_time_of_jobs_that_are_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr("boxsched.gateway.lookups.time.monotonic", lambda: clock[0])

    class Job:
        def __init__(self, started: bool) -> None:
            self.started = started

    class Jobs:
        async def assignments(self, workers: list[WorkerId]) -> dict[WorkerId, list[Job]]:
            clock[0] += 3.0
            return {ME: [Job(True), Job(False), Job(False)]}

    class Receiver:
        def give(self, assignments: Sequence[Any], *, anyway: bool) -> bool:
            return False

    figures = Figures()
    ups = LookUps(cast(Any, Jobs()), {ME: Receiver()}, figures, Times())
    clock[0] = 200.0
    ups.look((ME,))
    clock[0] = 201.0
    ups.look((ME,))  # the first hint counts
    await ups._look_up()
    assert figures.told_seconds == pytest.approx(2 * 4.0)
    assert figures.look_ups == 1


# --- Coming in ----------------------------------------------------------------------------------


class EntryStore:
    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.new: list[Any] = []

    async def connect_worker(self, new: Any) -> Connected:
        self.new.append(new)
        if self.answers:
            raise self.answers.pop(0)
        return Connected(WorkerConnection(ME, 1), 1, ())


def entry(store: EntryStore, why_not: str | None = None, *, leaves: bool = False) -> Entry:
    async def ask(shard: int, command: inbox.Command) -> None:
        raise AssertionError("nothing is announced")

    async def objects() -> str | None:
        return why_not

    return Entry(
        cast(Store, store),
        ask,
        node="node-1",
        lost_after=77.0,
        leaves=lambda: leaves,
        objects=objects,
        times=AT_ONCE,
    )


async def refused(door: Entry, hello: wire.Hello = HELLO) -> wire.Refused:
    with pytest.raises(NotLetIn) as raised:
        await door.connect(cast(Any, Line()), hello, TOKEN)
    return raised.value.answer


async def test_the_store_is_told_all_of_a_worker() -> None:
    store = EntryStore(StoreAway("away for the test"))
    hello = wire.Hello(
        wire.VERSION, "own w", "w", ("big", "small"), "", "", problem="full", stop_grace=9.0
    )
    await entry(store).connect(cast(Any, Line()), hello, TOKEN)
    assert len(store.new) == 2, "asked again"
    new = store.new[1]
    assert (new.identity, new.name, new.box_types) == ("own w", "w", ("big", "small"))
    assert (new.address, new.node) == ("192.0.2.7", "node-1")
    assert (new.lost_after, new.token, new.organization) == (77.0, TOKEN.id, TOKEN.organization)
    assert (new.problem, new.stop_grace) == ("full", 9.0)


async def test_each_refusal_says_whether_to_come_again() -> None:
    store = EntryStore()
    answer = await refused(entry(store, "one node with SQLite takes no workers"))
    assert (answer.code, answer.again) == ("mixed", False)
    assert answer.message == "one node with SQLite takes no workers"
    answer = await refused(entry(store, leaves=True))
    assert (answer.code, answer.again) == ("leaving", True)
    assert not store.new
    answer = await refused(entry(EntryStore(InvariantRefused("at the same moment"))))
    assert (answer.code, answer.again) == ("conflict", True)
    answer = await refused(entry(EntryStore(NotYet("not yet"))))
    assert (answer.again, answer.message) == (True, "not yet")


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("in-process", True),
        ("in-process@n", True),
        ("in-processes", False),
        ("my in-process", False),
    ],
)
async def test_the_name_of_the_nodes_own_workers_is_no_others(name: str, is_taken: bool) -> None:
    for field in ("name", "identity"):
        store = EntryStore()
        hello = wire.Hello(**{**_fields(HELLO), field: name})
        if is_taken:
            answer = await refused(entry(store), hello)
            assert (answer.code, answer.again) == ("invalid", False)
        else:
            await entry(store).connect(cast(Any, Line()), hello, TOKEN)
        assert bool(store.new) != is_taken


def _fields(hello: wire.Hello) -> dict[str, Any]:
    return {name: getattr(hello, name) for name in hello.__struct_fields__}


def test_a_hello_has_a_limit_and_a_version_of_its_own() -> None:
    text = wire.encode(HELLO).decode()
    assert read_version(text) == wire.VERSION
    assert read_hello(text) == HELLO
    for wrong, reason in (("x" * (512 * 1024 + 1), "too_large"), ("x" * (512 * 1024), "no_hello")):
        with pytest.raises(ProtocolViolation) as raised:
            read_version(wrong)
        assert raised.value.reason == reason


async def test_a_worker_that_does_not_take_its_refusal_is_cut() -> None:
    slow, well = Line(), Line()
    slow.slow = True
    well.takes.set()
    for line in (slow, well):
        await refuse(cast(Any, line), NotLetIn("full", "enough", again=True))
    await refuse(cast(Any, well), NotLetIn("invalid", "no", again=False))
    assert (slow.cuts, slow.hung_up) == (1, [])
    assert well.sent == [
        [wire.Refused("full", "enough", True)],
        [wire.Refused("invalid", "no", False)],
    ]
    assert well.hung_up == [
        (WSCloseCode.TRY_AGAIN_LATER, "full"),
        (WSCloseCode.POLICY_VIOLATION, "invalid"),
    ]
    assert well.cuts == 0


# --- At intervals -------------------------------------------------------------------------------


def gateway(hints_reach: Callable[[], bool], times: Times, lost_after: float = 120.0) -> Gateway:
    async def ask(shard: int, command: Any) -> None:
        raise AssertionError("nothing is announced")

    class Quiet:
        fix_commit = settle = None

    return Gateway(
        cast(Store, Quiet()),
        ask,
        ask,
        node="node-1",
        cluster="the cluster",
        lost_after=lost_after,
        log_limit=1,
        hints_reach=hints_reach,
        times=times,
    )


class Link:
    """``at``: when it was last heard, and told a level, in seconds of the loop's clock."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.ended: list[tuple[int, str]] = []

    def silent_since(self, time: float) -> bool:
        return self.at < time

    def told_before(self, time: float) -> bool:
        return self.at < time

    def end(self, code: WSCloseCode, reason: str) -> None:
        self.ended.append((code, reason))


class Pauses:
    """In the place of ``asyncio.sleep``: notes the seconds, and ends after so many."""

    def __init__(self, count: int) -> None:
        self.seconds: list[float] = []
        self.left = count

    async def sleep(self, seconds: float) -> None:
        if not self.left:
            raise asyncio.CancelledError
        self.left -= 1
        self.seconds.append(seconds)


async def test_silent_connections_end_and_old_levels_are_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = gateway(lambda: True, Times(silence=20.0, level=10.0))
    now = asyncio.get_running_loop().time()
    links = {WorkerId(n): Link(now - seconds) for n, seconds in ((1, 1.0), (2, 14.0), (3, 40.0))}
    house._links = cast(Any, links)
    looked: list[tuple[list[WorkerId], bool]] = []
    monkeypatch.setattr(
        house._look_ups, "look", lambda due, *, anyway: looked.append((list(due), anyway))
    )
    pauses = Pauses(2)
    monkeypatch.setattr("boxsched.gateway.gateway.asyncio.sleep", pauses.sleep)
    with pytest.raises(asyncio.CancelledError):
        await house._watch()
    assert pauses.seconds == [1.0, 1.0], "ten times in the shorter time"
    assert looked == [([2, 3], True)] * 2
    assert [link.ended for link in links.values()] == [
        [],
        [],
        [(WSCloseCode.TRY_AGAIN_LATER, "silent")] * 2,
    ]


async def test_without_hints_all_are_looked_up_soon_after_news_and_else_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reach = [True, False, False, False, False, False]
    answers: list[bool | StoreAway] = [True, StoreAway("away for the test"), False, True, False]
    house = gateway(lambda: reach.pop(0), Times(poll_fastest=0.02, poll=0.2))
    house._links = cast(Any, {ME: Link(0.0)})
    asked: list[list[WorkerId]] = []

    async def looked(workers: list[WorkerId]) -> bool:
        asked.append(workers)
        answer = answers.pop(0)
        if isinstance(answer, StoreAway):
            raise answer
        return answer

    monkeypatch.setattr(house._look_ups, "looked", looked)
    pauses = Pauses(6)
    monkeypatch.setattr("boxsched.gateway.gateway.asyncio.sleep", pauses.sleep)
    with pytest.raises(asyncio.CancelledError):
        await house._poll()
    assert asked == [[ME]] * 5
    assert all(0.0 < seconds <= 0.2 for seconds in pauses.seconds)


async def test_no_worker_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    house = gateway(lambda: False, Times())
    pauses = Pauses(3)
    monkeypatch.setattr("boxsched.gateway.gateway.asyncio.sleep", pauses.sleep)

    async def looked(workers: list[WorkerId]) -> bool:
        raise AssertionError("there is nobody to look up")

    monkeypatch.setattr(house._look_ups, "looked", looked)
    with pytest.raises(asyncio.CancelledError):
        await house._poll()


async def test_look_ups_take_at_most_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    house = gateway(lambda: False, Times(poll_fastest=0.02, poll=0.2))
    house._links = cast(Any, {ME: Link(0.0)})
    clock = [0.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock[0])

    async def looked(workers: list[WorkerId]) -> bool:
        clock[0] += 5.0
        return True

    monkeypatch.setattr(house._look_ups, "looked", looked)
    pauses = Pauses(3)
    monkeypatch.setattr("boxsched.gateway.gateway.asyncio.sleep", pauses.sleep)
    with pytest.raises(asyncio.CancelledError):
        await house._poll()
    assert pauses.seconds[0] <= 0.2
    assert pauses.seconds[1:] == [5.0, 5.0]


async def test_heartbeats_are_written_often_enough_for_a_short_promise() -> None:
    assert gateway(lambda: True, Times(beats=1.0), lost_after=5.0)._beats._seconds == 0.5
    assert gateway(lambda: True, Times(beats=1.0), lost_after=60.0)._beats._seconds == 1.0

"""How a worker connects: what the store is told, and what each refusal says."""

from typing import Any, cast

import pytest
from aiohttp import WSCloseCode

from boxsched.errors import StoreAway
from boxsched.gateway.entry import Entry, WorkerRefused, refuse
from boxsched.gateway.received import ProtocolViolation, read_hello, read_version
from boxsched.protocol import inbox, wire
from boxsched.protocol.workers import Connected, WorkerConnection
from boxsched.store.errors import InvariantRefused, NotYet
from boxsched.store.store import Store
from tests.gateway.fakes import AT_ONCE, HELLO, ME, TOKEN, FakeSocket


class EntryStore:
    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.new: list[Any] = []

    async def connect_worker(self, new: Any) -> Connected:
        self.new.append(new)
        if self.answers:
            raise self.answers.pop(0)
        return Connected(WorkerConnection(ME, 1), 1, ())

    async def check_worker(self, new: Any) -> None:
        if self.answers:
            raise self.answers.pop(0)


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
    with pytest.raises(WorkerRefused) as raised:
        await door.connect(cast(Any, FakeSocket()), hello, TOKEN)
    return raised.value.answer


async def test_the_store_gets_all_fields_of_a_worker() -> None:
    store = EntryStore(StoreAway("away for the test"))
    hello = wire.Hello(
        wire.VERSION, "own w", "w", ("big", "small"), "", "", problem="full", stop_grace=9.0
    )
    await entry(store).connect(cast(Any, FakeSocket()), hello, TOKEN)
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


async def test_a_check_is_refused_where_no_external_worker_is_allowed() -> None:
    line = cast(Any, FakeSocket())
    store = EntryStore()
    with pytest.raises(WorkerRefused) as raised:
        await entry(store, "use --boxes 0").check(line, HELLO, TOKEN)
    assert (raised.value.answer.code, raised.value.answer.message) == ("mixed", "use --boxes 0")
    with pytest.raises(WorkerRefused) as raised:
        await entry(EntryStore(NotYet("not yet"))).check(line, HELLO, TOKEN)
    assert raised.value.answer.message == "not yet"
    await entry(store).check(line, HELLO, TOKEN)
    assert not store.new, "nothing is recorded"


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("in-process", True),
        ("in-process@n", True),
        ("in-processes", False),
        ("my in-process", False),
    ],
)
async def test_no_other_worker_gets_the_name_of_the_nodes_own_worker(
    name: str, is_taken: bool
) -> None:
    for field in ("name", "identity"):
        store = EntryStore()
        hello = wire.Hello(**{**_fields(HELLO), field: name})
        if is_taken:
            answer = await refused(entry(store), hello)
            assert (answer.code, answer.again) == ("invalid", False)
        else:
            await entry(store).connect(cast(Any, FakeSocket()), hello, TOKEN)
        assert bool(store.new) != is_taken


def _fields(hello: wire.Hello) -> dict[str, Any]:
    return {name: getattr(hello, name) for name in hello.__struct_fields__}


def test_a_hello_has_a_size_limit_and_a_fixed_version() -> None:
    text = wire.encode(HELLO).decode()
    assert read_version(text) == wire.VERSION
    assert read_hello(text) == HELLO
    for wrong, reason in (("x" * (512 * 1024 + 1), "too_large"), ("x" * (512 * 1024), "no_hello")):
        with pytest.raises(ProtocolViolation) as raised:
            read_version(wrong)
        assert raised.value.reason == reason


async def test_a_worker_that_does_not_read_its_refusal_is_cut_off() -> None:
    slow, well = FakeSocket(), FakeSocket()
    slow.slow = True
    well.takes.set()
    for line in (slow, well):
        await refuse(cast(Any, line), WorkerRefused("full", "enough", again=True))
    await refuse(cast(Any, well), WorkerRefused("invalid", "no", again=False))
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

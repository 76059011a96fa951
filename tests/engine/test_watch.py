"""Which workers are connected, silent, lost or cut off, from heartbeats, promised times and nodes
that go away.
"""

import math
import random

import attrs
import pytest

from boxsched.engine.watch import (
    LATE_BEATS_SECONDS,
    NODE_GONE_SECONDS,
    NOTHING_SEEN,
    Sights,
    Watch,
)
from boxsched.model import WorkerId
from boxsched.protocol.timing import GIVEN_AGAIN_SECONDS, UNKNOWN_AFTER_SECONDS
from boxsched.protocol.workers import Pulse, WorkerConnection

W = WorkerId(7)
A, B = "A", "B"
PROMISES = {A: 120.0, B: 10.0}
LOOKS_ON = 1.0  # how often a supervisor checks


class WorkerRow:
    """The worker's row, written as ``fleet.sql`` does (the contract tests check that)."""

    def __init__(self) -> None:
        self.pulse = Pulse(W, A, True, 0, 0, None)

    def connect(self, node: str) -> None:
        promised = max(self.pulse.lost_after or 0.0, PROMISES[node])
        beat, connection = self.pulse.beat + 1, self.pulse.connection + 1
        self.pulse = Pulse(W, node, True, beat, connection, promised)

    def beat(self) -> None:
        promised = PROMISES[self.pulse.node]
        self.pulse = attrs.evolve(self.pulse, beat=self.pulse.beat + 1, lost_after=promised)


def watch(row: WorkerRow, *, own: float = 120.0, now: float = 0.0) -> Watch:
    made = Watch(own)
    made.begin([row.pulse], now, {W})
    return made


def lost_at(seen: Watch, row: WorkerRow, now: float) -> float:
    """Return the seconds from ``now`` until it is lost, if it is not heard again."""
    for seconds in range(1, 1_000):
        if seen.look([row.pulse], now + seconds).lost:
            return seconds
    raise AssertionError("never")


# --- What it was promised -------------------------------------------------------------------


def after(lost_after: float) -> float:
    """The first check after it, the drift, and the time supervisors need to end their jobs."""
    return math.ceil(lost_after * 1.05 + GIVEN_AGAIN_SECONDS)


@pytest.mark.parametrize("own", [10.0, 120.0])
@pytest.mark.parametrize("node", [A, B])
def test_a_worker_is_lost_after_the_time_that_its_node_promised(node: str, own: float) -> None:
    row = WorkerRow()
    row.connect(node)
    assert lost_at(watch(row, own=own), row, 0.0) == after(PROMISES[node])


@pytest.mark.parametrize("own", [10.0, 120.0])
def test_the_leaders_own_value_is_used_if_none_is_known(own: float) -> None:
    row = WorkerRow()
    assert lost_at(watch(row, own=own), row, 0.0) == after(own)


def test_a_worker_is_silent_according_to_its_own_heartbeat_interval() -> None:
    """A worker that sends one every 5 s is not silent in between, even if the leader's interval is
    short.
    """
    row = WorkerRow()
    row.connect(A)
    seen = watch(row, own=10.0)
    assert not seen.look([row.pulse], UNKNOWN_AFTER_SECONDS - 1)
    assert seen.look([row.pulse], UNKNOWN_AFTER_SECONDS).silent == (W,)


def test_with_a_short_promise_a_worker_is_silent_after_half_of_it() -> None:
    row = WorkerRow()
    row.connect(B)
    seen = watch(row)
    assert not seen.look([row.pulse], 4.9)
    assert seen.look([row.pulse], 5.0).silent == (W,)


def test_a_worker_counts_as_missing_after_half_of_its_silent_time() -> None:
    row = WorkerRow()
    row.connect(B)
    seen = watch(row)
    assert not seen.misses_somebody(2.4)
    assert seen.misses_somebody(2.5)
    seen.leave_out(3.0)
    assert not seen.misses_somebody(5.4)
    assert seen.look([row.pulse], 8.0).silent == (W,)
    assert not seen.misses_somebody(100.0), "a worker that is already silent is not waited for"


def test_between_welcome_and_first_heartbeat_either_promise_may_apply() -> None:
    for first, then in ((A, B), (B, A)):
        row = WorkerRow()
        row.connect(first)
        row.beat()
        seen = watch(row, own=10.0)
        row.connect(then)
        seen.look([row.pulse], 50.0)
        assert lost_at(seen, row, 50.0) == after(120.0)


def test_from_its_first_heartbeat_on_only_the_new_promise_applies() -> None:
    row = WorkerRow()
    row.connect(A)
    seen = watch(row)
    row.connect(B)
    row.beat()
    assert seen.look([row.pulse], 5.0) == NOTHING_SEEN
    assert lost_at(seen, row, 5.0) == after(10.0)


def test_a_worker_may_move_twice_between_two_checks() -> None:
    row = WorkerRow()
    row.connect(B)
    row.beat()
    seen = watch(row, own=10.0)
    row.connect(A)  # receives the Welcome, and is cut off
    row.connect(B)  # does not receive it
    seen.look([row.pulse], 1.0)
    assert lost_at(seen, row, 1.0) == after(120.0)


def test_a_new_leader_knows_what_the_last_one_knew() -> None:
    row = WorkerRow()
    row.connect(A)
    row.beat()
    row.connect(B)
    assert lost_at(watch(row, own=10.0, now=70.0), row, 70.0) == after(120.0)
    row.beat()
    assert lost_at(watch(row, own=120.0, now=70.0), row, 70.0) == after(10.0)


class Worker:
    """A worker and the last of its supervisors, which follows what the worker received."""

    def __init__(self, row: WorkerRow) -> None:
        self.row = row
        self.deadline = 0.0
        self.hears = ""  # the node and connection whose Welcome it received

    def connect(self, node: str, now: float, *, hears: bool) -> None:
        self.row.connect(node)
        self.hears = node if hears else ""
        if hears:
            self.deadline = now + PROMISES[node]

    def beat(self, now: float, *, answered: bool) -> None:
        if self.hears and self.row.pulse.connected:
            self.row.beat()
            if answered:
                self.deadline = now + PROMISES[self.hears]


@pytest.mark.parametrize("seed", range(10))
def test_its_builds_have_always_ended_before_it_counts_as_lost(seed: int) -> None:
    """Connects, heartbeats, lost answers, takeovers and outages come in any order."""
    chance = random.Random(seed)
    row = WorkerRow()
    worker = Worker(row)
    worker.connect(A, 0.0, hears=True)
    seen = watch(row)
    now, losses = 0.0, 0
    for _ in range(2_000):
        now += 1.0
        match chance.randrange(30):
            case 0:
                worker.connect(chance.choice((A, B)), now, hears=chance.random() < 0.6)
            case 1 | 2:
                worker.beat(now, answered=chance.random() < 0.6)
            case 3 if chance.random() < 0.1:
                seen = watch(row, own=chance.choice((10.0, 120.0)), now=now)
            case 4 if chance.random() < 0.1:
                seen.begin_anew(now)
            case 5 if chance.random() < 0.3:
                now += chance.choice((20.0, 100.0))
                worker.beat(now, answered=True)
            case 6 if chance.random() < 0.2:  # it is away for long
                for _ in range(chance.choice((25, 150))):
                    now += 1.0
                    if seen.look([row.pulse], now).lost:
                        losses += 1
                        assert now > worker.deadline + LOOKS_ON
        sights = seen.look([row.pulse], now)
        if sights.connections:
            row.pulse = attrs.evolve(row.pulse, connected=False)
        if sights.lost:
            losses += 1
            assert now > worker.deadline + LOOKS_ON
    assert losses > 3, "or nothing was tried"


# --- Nodes that go away -------------------------------------------------------------------------


def connected_to(node: str = A, beat: int = 1, *, connected: bool = True) -> Pulse:
    return Pulse(W, node, connected, beat, 1, 120.0)


def begun(pulse: Pulse) -> Watch:
    made = Watch(120.0)
    made.begin([pulse], 0.0, {W})
    return made


def looks(seen: Watch, pulse: Pulse, times: range, gone: str = A) -> dict[int, Sights]:
    """Return what changed, by second."""
    found = {now: seen.look([pulse], float(now), {gone}) for now in times}
    return {now: sights for now, sights in found.items() if sights}


HUNG_UP = Sights(hung_up=(W,))
BACK = Sights(back=(W,))


def test_a_worker_whose_node_is_gone_for_a_while_has_hung_up() -> None:
    first = int(NODE_GONE_SECONDS) + 1
    changes = looks(begun(connected_to()), connected_to(), range(1, 17))
    assert changes[first] == HUNG_UP
    assert changes.pop(int(UNKNOWN_AFTER_SECONDS)).silent == (W,)
    assert set(changes) == {first}


def test_workers_of_other_nodes_have_not_hung_up() -> None:
    assert looks(begun(connected_to(B)), connected_to(B), range(1, 10)) == {}


def test_a_node_that_returns_soon_keeps_its_workers() -> None:
    seen, pulse = begun(connected_to()), connected_to()
    assert looks(seen, pulse, range(1, 5)) == {}
    assert not seen.look([pulse], 5.0)
    assert looks(seen, pulse, range(6, 10)) == {}
    assert looks(seen, pulse, range(10, 12)) == {10: HUNG_UP}


def test_values_from_before_a_nodes_end_are_not_a_sign_of_life() -> None:
    seen = begun(connected_to())
    assert looks(seen, connected_to(), range(1, 2)) == {}
    late = connected_to(beat=2)
    assert looks(seen, late, range(1 + int(LATE_BEATS_SECONDS), 10)) == {5: HUNG_UP}


def test_a_node_without_locks_that_still_serves_keeps_its_workers() -> None:
    seen = begun(connected_to())
    looks(seen, connected_to(), range(1, 4))
    assert looks(seen, connected_to(beat=2), range(4, 19)) == {}


def test_a_worker_that_hung_up_is_back_with_its_next_heartbeat() -> None:
    seen = begun(connected_to())
    assert looks(seen, connected_to(), range(1, 7)) == {5: HUNG_UP}
    assert looks(seen, connected_to(beat=2), range(7, 20)) == {7: BACK}
    assert looks(seen, connected_to(beat=2), range(20, 23))[22].silent == (W,)


def test_a_worker_that_hung_up_is_back_on_another_node() -> None:
    seen = begun(connected_to())
    looks(seen, connected_to(), range(1, 7))
    assert looks(seen, connected_to(B, beat=2), range(7, 15)) == {7: BACK}


def test_a_heartbeat_right_after_the_connect_is_no_news() -> None:
    seen = begun(connected_to())
    looks(seen, connected_to(), range(1, 7))
    seen.connected(W, 7.0)
    assert looks(seen, connected_to(B, beat=2), range(8, 15)) == {}


def test_a_silent_workers_connection_is_closed_once() -> None:
    seen = begun(connected_to())
    looks(seen, connected_to(), range(1, 7))
    assert looks(seen, connected_to(connected=False), range(7, 15)) == {}


def test_closed_connections_are_remembered_during_an_outage_of_the_store() -> None:
    seen = begun(connected_to())
    looks(seen, connected_to(), range(1, 7))
    seen.begin_anew(40.0)
    assert looks(seen, connected_to(), range(40, 50)) == {}
    assert looks(seen, connected_to(beat=2), range(50, 51)) == {50: BACK}


@pytest.mark.parametrize("loaded", [True, False])
def test_after_an_outage_a_node_has_its_whole_time_again(loaded: bool) -> None:
    seen = begun(connected_to())
    assert looks(seen, connected_to(), range(1, 4)) == {}
    if loaded:
        seen.begin([connected_to()], 40.0, {W})
    else:
        seen.begin_anew(40.0)
    assert looks(seen, connected_to(), range(40, 50)) == {44: HUNG_UP}


def test_seconds_without_any_heartbeats_do_not_count_against_a_node() -> None:
    seen = begun(connected_to())
    assert looks(seen, connected_to(), range(1, 4)) == {}
    seen.leave_out(20.0)
    assert looks(seen, connected_to(), range(23, 30)) == {25: HUNG_UP}


def test_a_worker_that_came_and_hung_up_between_two_checks_is_not_connected() -> None:
    seen = begun(connected_to())
    assert seen.look([connected_to()], 15.0).connections == (WorkerConnection(W, 1),)
    sights = seen.look([connected_to(beat=2, connected=False)], 16.0)
    assert (sights.back, sights.hung_up) == ((W,), (W,))


def test_a_worker_whose_row_is_gone_is_no_longer_watched() -> None:
    row = WorkerRow()
    seen = watch(row)
    assert seen.look([], 1.0) == NOTHING_SEEN
    assert not seen._watched


@pytest.mark.parametrize(("beat_after", "there"), [(LATE_BEATS_SECONDS, False), (2.5, True)])
def test_a_heartbeat_from_before_its_nodes_end_may_be_seen_late(
    beat_after: float, there: bool
) -> None:
    assert LATE_BEATS_SECONDS == 2.0
    row = WorkerRow()
    row.connect(A)
    seen = watch(row)
    seen.look([row.pulse], 1.0, {A})
    row.beat()
    seen.look([row.pulse], 1.0 + beat_after, {A})
    sights = seen.look([row.pulse], 1.0 + NODE_GONE_SECONDS, {A})
    assert sights.hung_up == (() if there else (W,))

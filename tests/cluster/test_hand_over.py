"""Leadership of two shards by up to three nodes, step by step in any order, with a held clock."""

import asyncio
import os
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from boxsched.cluster import elected, lock_session
from tests.cluster.lock_server import FakeShards, HeldNode, LockServer

SHARDS = (1, 2)
NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)
delays = st.sampled_from((0.0, 0.0, 0.05, 0.4, 0.7, 1.6, 2.6, 3.1))
SETTLED_ROUNDS = 180  # of 0.1 s


class HandOver(RuleBasedStateMachine):
    """A node is late, frozen or cut off when its steps are not run or its messages not read."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.loop = asyncio.new_event_loop()
        self.server = LockServer()
        self.heads = FakeShards((1,))
        self.nodes: dict[str, HeldNode] = {}
        self.patch.setattr(lock_session, "clock", lambda: self.server.now)
        self.patch.setattr(elected, "clock", lambda: self.server.now)

    @initialize(first=names)
    def one_node(self, first: str) -> None:
        self.begin(first)

    # --- Nodes ------------------------------------------------------------------------------

    @rule(name=names)
    def begin(self, name: str) -> None:
        """Also a new process of a node whose last one crashed."""
        if name in self.nodes:
            return

        async def made() -> HeldNode:
            node = HeldNode(name, self.server, self.heads)
            await node.leadership.start()
            return node

        self.nodes[name] = self.loop.run_until_complete(made())

    @rule(name=names)
    def stop(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None and node.closing is None:
            node.closing = self.loop.create_task(node.leadership.close())

    @rule(name=names, server_hears=st.booleans())
    def crash(self, name: str, server_hears: bool) -> None:
        node = self.nodes.pop(name, None)
        if node is not None and node.locks is not None and server_hears:
            self.server.end(node.locks.session)

    # --- Steps ------------------------------------------------------------------------------

    @rule(seconds=delays)
    def time_passes(self, seconds: float) -> None:
        self.server.pass_time(seconds)

    @rule(name=names, before=delays, after=delays)
    def ping(self, name: str, before: float, after: float) -> None:
        if name in self.nodes:
            self.nodes[name].ping(before, after)

    @rule(name=names, reads_mail=st.booleans())
    def loop_steps(self, name: str, reads_mail: bool) -> None:
        """Let the loop run before it reads the messages of the thread, unless ``reads_mail``."""
        if name in self.nodes:
            self._step(name, reads_mail=reads_mail)

    @rule(rounds=st.integers(1, 30), who=st.sets(names, min_size=1))
    def all_is_well(self, rounds: int, who: set[str]) -> None:
        """Run rounds of these nodes; the others are frozen."""
        self._rounds(rounds, who)

    @rule()
    def another_shard(self) -> None:
        self.heads.ids = SHARDS

    # --- Faults -----------------------------------------------------------------------------

    @rule(name=names)
    def the_server_kills_a_session(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None and node.locks is not None and node.locks.session.alive:
            node.killed()

    @rule(name=names, server_hears=st.booleans())
    def a_session_is_lost(self, name: str, server_hears: bool) -> None:
        node = self.nodes.get(name)
        if node is not None and node.locks is not None:
            node.lose("lost", server_hears=server_hears)

    @precondition(lambda self: any(node.engines for node in self.nodes.values()))
    @rule(data=st.data())
    def a_turn_is_long(self, data: st.DataObject) -> None:
        engines = [one for node in self.nodes.values() for one in node.engines.values()]
        engine = data.draw(st.sampled_from(engines))
        engine.busy = not engine.busy

    # --- Invariants -------------------------------------------------------------------------

    @invariant()
    def nobody_trusts_beside_another(self) -> None:
        """Except where a session was killed: then the fence refuses the former leader's writes."""
        for shard in SHARDS:
            trusting = [node for node in self.nodes.values() if node.trusts(shard)]
            if len(trusting) > 1:
                former = [node for node in trusting if not self._holds(node, shard)]
                assert len(former) >= len(trusting) - 1
                assert all(node.excused for node in former), "two trust their locks at once"

    @invariant()
    def one_at_most_can_commit(self) -> None:
        for shard in SHARDS:
            engines = [n.engines[shard] for n in self.nodes.values() if shard in n.engines]
            assert sum(engine.can_commit for engine in engines) <= 1

    @invariant()
    def what_a_node_says_it_leads_it_trusts(self) -> None:
        for node in self.nodes.values():
            for shard in node.leadership.led:
                assert node.engines[shard].leads

    def _holds(self, node: HeldNode, shard: int) -> bool:
        return node.locks is not None and self.server.holder(shard) is node.locks.session

    # --- In the end -------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self._settles()
        finally:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.close()
            self.patch.undo()

    def _settles(self) -> None:
        """Without faults every shard is led again, in fair shares, and stays with its node."""
        self.another_shard()
        for node in self.nodes.values():
            for engine in node.engines.values():
                engine.busy = False
        if not any(node.closing is None for node in self.nodes.values()):
            self.begin(next(name for name in (*NAMES, "d") if name not in self.nodes))
        self._rounds(SETTLED_ROUNDS, set(self.nodes))
        settled = self._leaders()
        assert set(settled) == set(SHARDS), f"not led: {settled}"
        staying = [name for name, node in self.nodes.items() if node.closing is None]
        assert set(settled.values()) <= set(staying)
        counts = Counter(settled.values())
        assert max(counts.values()) - min(counts[name] for name in staying) <= 1
        tenures = self._engines()
        self._rounds(60, set(self.nodes))
        assert self._engines() == tenures, "a shard changed hands though all is well"
        for shard in SHARDS:
            [engine] = [n.engines[shard] for n in self.nodes.values() if shard in n.engines]
            assert engine.can_commit
        for node in self.nodes.values():
            if node.closing is not None:
                assert node.closing.done()
                node.closing.result()

    def _leaders(self) -> dict[int, str]:
        return {s: name for name, node in self.nodes.items() for s in node.leadership.led}

    def _engines(self) -> set[int]:
        return {id(one) for node in self.nodes.values() for one in node.engines.values()}

    def _rounds(self, rounds: int, who: set[str]) -> None:
        for _ in range(rounds):
            self.server.pass_time(0.1)
            for name in sorted(who & self.nodes.keys()):
                self.nodes[name].ping()
                self._step(name)

    def _step(self, name: str, *, reads_mail: bool = True) -> None:
        self.loop.run_until_complete(self.nodes[name].step(reads_mail=reads_mail))


HandOver.TestCase.settings = settings(
    max_examples=int(os.environ.get("BOXSCHED_TEST_HANDOVERS", "30")),
    stateful_step_count=40,
    deadline=None,
)
TestHandOver = HandOver.TestCase

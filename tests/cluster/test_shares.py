"""The rule of fair shares, and that repeating it leads to fair shares."""

from hypothesis import given, settings
from hypothesis import strategies as st

from boxsched.cluster.shares import LockView, to_hand_over


def view(me: int, leaders: dict[int, int], nodes: set[int]) -> LockView:
    return LockView(me, frozenset(nodes), leaders)


def test_a_node_alone_keeps_all() -> None:
    assert to_hand_over(view(1, {1: 1, 2: 1, 3: 1}, {1}), (1, 2, 3)) is None


def test_a_new_node_is_given_the_last_one() -> None:
    assert to_hand_over(view(1, {1: 1, 2: 1, 3: 1}, {1, 2}), (1, 2, 3)) == 3


def test_a_difference_of_one_is_fair() -> None:
    assert to_hand_over(view(1, {1: 1, 2: 1, 3: 2}, {1, 2}), (1, 2, 3)) is None


def test_no_share_moves_while_a_shard_has_no_leader() -> None:
    assert to_hand_over(view(1, {1: 1, 2: 1}, {1, 2}), (1, 2, 3)) is None


def test_a_dead_leader_is_not_counted() -> None:
    """Its session ends in a moment; until then a node that is not alive holds its lock."""
    leaders = {1: 1, 2: 1, 3: 9}
    assert to_hand_over(view(1, leaders, {1, 2}), tuple(leaders)) == 2


def test_the_node_with_most_shards_gives_one_up_first() -> None:
    leaders = {1: 1, 2: 1, 3: 2, 4: 2, 5: 2}
    assert to_hand_over(view(1, leaders, {1, 2, 3}), tuple(leaders)) is None
    assert to_hand_over(view(2, leaders, {1, 2, 3}), tuple(leaders)) == 5


@settings(deadline=None)  # for a busy machine
@given(
    nodes=st.integers(1, 6),
    owners=st.lists(st.integers(1, 6), min_size=1, max_size=24),
    chance=st.randoms(use_true_random=False),
)
def test_shares_become_fair_and_then_stay(nodes, owners, chance) -> None:
    leaders = {shard: 1 + owner % nodes for shard, owner in enumerate(owners, 1)}
    alive = set(range(1, nodes + 1))
    for _ in range(200 * len(leaders)):
        giving = {n: to_hand_over(view(n, leaders, alive), tuple(leaders)) for n in alive}
        shards = [shard for shard in giving.values() if shard is not None]
        if not shards:
            break
        # The first to see it takes it; only the giver does not.
        shard = chance.choice(shards)
        leaders[shard] = chance.choice(sorted(alive - {leaders[shard]}))
    counts = [sum(leader == n for leader in leaders.values()) for n in alive]
    assert max(counts) - min(counts) <= 1

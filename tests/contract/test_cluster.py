"""Shards, nodes and tokens."""

import time

import attrs
import pytest

from boxsched.errors import Fenced
from boxsched.protocol.shards import SHARD, Organization
from boxsched.store.records import ShardHead, Token
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import Leader


async def test_there_is_one_shard_until_more_are_opened(store: Store) -> None:
    assert await store.shards() == [ShardHead(1, 0, 0, "")]
    assert [each.id for each in await store.open_shards(3)] == [1, 2, 3]
    assert [each.id for each in await store.open_shards(2)] == [1, 2, 3], "it only grows"
    assert await store.open_shards(3) == await store.shards()


async def test_each_shard_has_its_own_epochs_and_batches(store: Store) -> None:
    await store.open_shards(2)
    leader = await Leader(store).lead(boxes=0)
    await leader.commit()
    assert await store.raise_epoch(2, "node-2") == 1
    assert await store.raise_epoch(2, "node-3") == 2
    assert await store.shards() == [ShardHead(1, 1, 1, "node-1"), ShardHead(2, 2, 0, "node-3")]
    mine = leader.next_batch()
    with pytest.raises(Fenced):
        await store.commit(attrs.evolve(mine, shard=2, batch=1, epoch=2))
    await store.commit(attrs.evolve(mine, shard=2, batch=0, epoch=2))
    await store.commit(mine)
    assert [each.batch for each in await store.shards()] == [2, 1]
    assert await store.batch_number(2) == (2, 1)


async def test_commands_wait_in_their_shard(store: Store) -> None:
    await store.open_shards(2)
    await store.ask(2, [("stop", b"[1]")])
    await store.ask(1, [("stop", b"[2]"), ("stop", b"[3]")])
    assert [each.payload for each in await store.inbox(1, 10)] == [b"[2]", b"[3]"]
    assert [each.payload for each in await store.inbox(2, 10)] == [b"[1]"]


async def test_settings_leave_the_organization_in_its_shard(db: DatabaseUnderTest) -> None:
    store = await db.open()
    before = await store.organization()
    assert before == Organization(1, "default", before.policy, None, None, 1)
    await store.set_organization(attrs.evolve(before, shard=7, max_boxes=5))
    assert await (await db.reopen()).organization() == attrs.evolve(before, max_boxes=5)


# --- Nodes ----------------------------------------------------------------------------------


async def test_a_node_keeps_its_row(db: DatabaseUnderTest) -> None:
    store = await db.open()
    first = await store.put_node("a", "http://a", "1.0")
    assert (first.name, first.url, first.version) == ("a", "http://a", "1.0")
    assert abs(first.started_at - time.time()) < 60
    second = await store.put_node("b", "http://b", "1.0")
    store = await db.reopen()
    again = await store.put_node("a", "https://a2", "1.1")
    assert (again.id, again.url, again.version) == (first.id, "https://a2", "1.1")
    assert again.started_at >= first.started_at
    assert await store.nodes() == [again, second]
    await store.forget_node("b")
    await store.forget_node("nobody")
    assert await store.nodes() == [again]
    assert (await store.put_node("b", "http://b", "1.0")).id > second.id, "no id comes twice"


# --- Tokens ---------------------------------------------------------------------------------


def token(name: str, **changes: object) -> Token:
    new = Token(f"id-{name}", f"digest-{name}", "admin", name, 1.25)
    return attrs.evolve(new, **changes)  # type: ignore[arg-type]


async def test_a_token_is_valid_until_it_is_revoked(db: DatabaseUnderTest) -> None:
    store = await db.open()
    ada = token("ada", created_at=3.5)
    worker = token("w", role="worker", expires_at=99.5, created_at=2.5)
    for each in (ada, worker):
        await store.put_token(each)
    assert "digest" not in repr(ada)
    store = await db.reopen()
    assert await store.token("digest-ada") == ada
    assert await store.token("digest-w") == worker
    assert await store.token("digest-other") is None
    assert await store.tokens() == [worker, ada], "oldest first"
    assert await store.revoke_token("id-ada") is True
    assert await store.revoke_token("id-ada") is False
    assert await store.revoke_token("id-nobody") is False
    assert await store.token("digest-ada") is None
    assert await store.tokens() == [worker]


async def test_a_stored_digest_stays_unchanged(store: Store) -> None:
    ada = token("ada")
    await store.put_token(ada)
    await store.put_token(attrs.evolve(ada, id="other", role="worker", name="eve"))
    assert await store.tokens() == [ada]
    await store.revoke_token(ada.id)
    await store.put_token(ada)
    assert await store.token(ada.digest) is None, "no node's start brings it back"


async def test_an_unknown_shard_is_refused(store: Store) -> None:
    assert await store.inbox(SHARD + 1, 10) == []
    with pytest.raises(Fenced):
        await store.batch_number(SHARD + 1)

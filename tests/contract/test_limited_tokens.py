"""Tokens with a role or a scope, their last use, and what earlier programs make of them."""

import contextlib
import sqlite3
import time
from typing import Any

import psycopg2
import pytest

from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.test_cluster import token
from tests.contract.test_versions import run


def asked(db: DatabaseUnderTest, query: str) -> list[tuple[Any, ...]]:
    """Return the rows, as another program reads them."""
    if db.url.startswith("postgres"):
        with contextlib.closing(psycopg2.connect(db.url)) as raw, raw.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()
    with contextlib.closing(sqlite3.connect(db.url.removeprefix("sqlite:///"))) as raw:
        return raw.execute(query).fetchall()


@pytest.mark.parametrize("role", ["viewer", "developer", "operator", "admin"])
@pytest.mark.parametrize("instance", [True, False])
async def test_a_token_keeps_its_role_and_scope(
    db: DatabaseUnderTest, role: str, instance: bool
) -> None:
    store = await db.open()
    scoped = token(
        "ada", role=role, instance=instance, projects=("web", "api-*"), servers=(), max_workers=1
    )
    whole = token("eve", role=role, instance=instance)
    for each in (scoped, whole):
        await store.put_token(each)
    assert await store.token(scoped.digest) == scoped
    assert await store.token(whole.digest) == whole
    assert await store.tokens() == [scoped, whole]


# How programs of the eighth schema decide what a token may do.
EIGHTH = "SELECT id, role, bound, taken_by FROM token WHERE NOT revoked ORDER BY id"


async def test_an_earlier_program_allows_no_token_more_than_its_role(db: DatabaseUnderTest) -> None:
    """It takes everything for an admin's that is not a worker's."""
    store = await db.open()
    whole = token("whole", instance=True)
    worker = token("worker", role="worker")
    limited = [
        token("organization"),
        token("project", instance=True, projects=("web",)),
        token("server", instance=True, servers=("staging",)),
        token("viewer", instance=True, role="viewer"),
    ]
    for each in (whole, worker, *limited):
        await store.put_token(each)
    seen = {id_: (role, bool(bound), taken) for id_, role, bound, taken in asked(db, EIGHTH)}
    assert seen.pop("id-whole") == ("admin", False, None)
    assert seen.pop("id-worker") == ("worker", False, None)
    # A worker's token that a worker without an identity has taken: no worker can use it.
    assert set(seen.values()) == {("worker", True, "")} and len(seen) == len(limited)


async def test_tokens_of_an_earlier_program_are_the_instances(db: DatabaseUnderTest) -> None:
    store = await db.open()
    run(
        db,
        """INSERT INTO token (id, digest, role, name, created_at, organization)
           VALUES ('t1', 'd1', 'worker', 'w', 1, 1), ('t2', 'd2', 'admin', 'ada', 2, 1)""",
    )
    assert [(one.role, one.instance) for one in await store.tokens()] == [
        ("worker", False),
        ("admin", True),
    ]


async def test_the_last_use_of_a_token_is_noted_at_most_once_in_a_time(store: Store) -> None:
    ada, eve = token("ada"), token("eve")
    for each in (ada, eve):
        await store.put_token(each)
    await store.tokens_used([ada.id, "id-nobody"], 3_600.0)
    first, other = await store.tokens()
    assert first.last_used_at is not None and abs(first.last_used_at - time.time()) < 60
    assert other.last_used_at is None
    await store.tokens_used([ada.id, eve.id], 3_600.0)  # as from another node
    again, other = await store.tokens()
    assert again == first and other.last_used_at is not None
    await store.tokens_used([ada.id], 0.0)
    later, _ = await store.tokens()
    assert later.last_used_at is not None and later.last_used_at > first.last_used_at

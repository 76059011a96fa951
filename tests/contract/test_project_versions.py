"""The versions of a project's settings: author and time, a limited number, deleted with the
project."""

import asyncio

import pytest

from boxsched.errors import Outdated
from boxsched.store.steps.project_versions import ABSENT, KEPT_VERSIONS, Edit, StoredVersion
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest

ALL = 1 << 62


async def put(store: Store, settings: str, edit: Edit):
    return await store.put_project("web", settings, None, {}, (), edit)


async def test_each_change_is_a_version_with_author_and_content(store: Store) -> None:
    made, _ = await put(store, '{"a":1}', Edit("ann", ("jobs",)))
    await put(store, '{"a":2}', Edit("bob", ("jobs", "servers.prod"), reverts=1))
    second, first = await store.project_versions(made.id, ALL, 10)
    assert (first.version, first.by, first.changed, first.reverts) == (1, "ann", ("jobs",), None)
    assert (second.version, second.by, second.reverts) == (2, "bob", 1)
    assert second.changed == ("jobs", "servers.prod")
    assert first.at is not None and second.at is not None
    assert 1.6e9 < first.at <= second.at, "seconds since 1970"
    assert first.settings == "", "a list has no settings"
    whole = await store.project_version(made.id, 1)
    assert whole is not None and whole.settings == '{"a":1}'
    assert await store.project_version(made.id, 3) is None
    assert [one.version for one in await store.project_versions(made.id, 2, 10)] == [1]
    assert [one.version for one in await store.project_versions(made.id, ALL, 1)] == [2]


async def test_a_change_for_another_version_is_refused_and_leaves_nothing(store: Store) -> None:
    made, _ = await put(store, "{}", Edit("ann", onto=ABSENT))
    changed, _ = await put(store, '{"a":1}', Edit("ann", onto=(made.id, 1)))
    for onto in (ABSENT, (made.id, 1), (made.id, 3), (made.id + 1, 2)):
        with pytest.raises(Outdated):
            await put(store, '{"b":1}', Edit("bob", onto=onto))
    assert await store.project("web") == changed
    assert [one.by for one in await store.project_versions(made.id, ALL, 10)] == ["ann", "ann"]


async def test_one_of_many_simultaneous_creators_succeeds(store: Store) -> None:
    made = await asyncio.gather(
        *(put(store, f'{{"a":{n}}}', Edit(f"p{n}", onto=ABSENT)) for n in range(8)),
        return_exceptions=True,
    )
    [(project, created)] = [one for one in made if not isinstance(one, BaseException)]
    assert created and project.version == 1
    assert sum(isinstance(one, Outdated) for one in made) == 7
    assert len(await store.project_versions(project.id, ALL, 10)) == 1


async def test_the_latest_versions_are_kept(store: Store) -> None:
    for number in range(KEPT_VERSIONS + 3):
        project, _ = await put(store, f'{{"a":{number}}}', Edit("ann"))
    kept = await store.project_versions(project.id, ALL, 1000)
    assert [one.version for one in kept] == list(range(KEPT_VERSIONS + 3, 3, -1))


async def test_a_deleted_project_takes_its_history_with_it(db: DatabaseUnderTest) -> None:
    store = await db.open()
    first, _ = await put(store, "{}", Edit("ann"))
    await store.delete_project("web")
    second, _ = await put(store, "{}", Edit("bob"))
    assert await store.project_versions(first.id, ALL, 10) == []
    assert [one.by for one in await store.project_versions(second.id, ALL, 10)] == ["bob"]


async def test_values_of_an_earlier_program_are_kept_when_it_changes(db: DatabaseUnderTest) -> None:
    store = await db.open()
    made, _ = await put(store, '{"a":1}', Edit("ann"))
    await db.close()
    db.plant("UPDATE project SET settings = '{\"a\":2}', version = version + 1")
    store = await db.open()
    await put(store, '{"a":3}', Edit("bob"))
    assert await store.project_version(made.id, 2) == StoredVersion(
        2, (), None, None, None, '{"a":2}'
    )
    assert [one.version for one in await store.project_versions(made.id, ALL, 9)] == [3, 2, 1]

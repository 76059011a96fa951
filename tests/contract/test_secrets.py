"""Secrets of projects: versions, limits, the values for jobs, and replacing sealed texts."""

import pytest

from boxsched.errors import Invalid
from boxsched.model import ProjectId
from boxsched.store.steps.secrets import (
    GIT_CREDENTIALS,
    MAX_SEALED_CHARACTERS,
    MAX_SECRETS,
    SECRET,
    WEBHOOK_SECRET,
    Seal,
    SealedSecret,
    SealedText,
)
from boxsched.store.store import Store
from tests.contract.store_data import Leader

FIRST = (ProjectId(0), "")


def text(value: str) -> Seal:
    """A fake seal: the text shows what the value was bound to."""
    return lambda project, version: f"sealed:{value}:{project}:{version}"


async def put(store: Store, name: str, value: str = "x", project: str = "web") -> tuple[int, bool]:
    """Store a secret; return the version, and whether it was created."""
    done = await store.put_secret(project, name, text(value), as_file=False)
    assert done is not None
    info, created = done
    return info.version, created


async def given(store: Store, *projects: ProjectId) -> list[SealedSecret]:
    """Return what jobs of these projects are given, by name."""
    found = await store.sealed_secrets(projects)
    return sorted(found, key=lambda one: (one.name, one.project))


async def test_each_value_of_a_secret_has_the_next_version(leader: Leader) -> None:
    store = leader.store
    web = await leader.project()
    done = await store.put_secret("web", "TOKEN", text("a"), as_file=True)
    assert done is not None
    info, created = done
    assert (info.name, info.as_file, info.version, created) == ("TOKEN", True, 1, True)
    assert await put(store, "TOKEN", "b") == (2, False)
    assert await put(store, "KEY") == (1, True)
    listed = [(one.name, one.as_file, one.version) for one in await store.secrets(web.id)]
    assert listed == [("KEY", False, 1), ("TOKEN", False, 2)]
    assert await given(store, web.id) == [
        SealedSecret(web.id, "KEY", 1, False, f"sealed:x:{web.id}:1"),
        SealedSecret(web.id, "TOKEN", 2, False, f"sealed:b:{web.id}:2"),
    ]


async def test_an_unknown_project_has_no_secrets(leader: Leader) -> None:
    store = leader.store
    assert await store.put_secret("nowhere", "TOKEN", text("a"), as_file=False) is None
    web = await leader.project()
    await put(store, "TOKEN")
    assert await store.delete_project("web")
    assert await store.put_secret("web", "TOKEN", text("a"), as_file=False) is None
    assert await given(store, web.id) == []


async def test_a_deleted_secret_is_gone_and_others_stay(leader: Leader) -> None:
    store = leader.store
    web, app = await leader.project("web"), await leader.project("app")
    for project in ("web", "app"):
        await put(store, "TOKEN", project=project)
    await put(store, "KEY")
    assert await store.drop_secret(web.id, "TOKEN")
    assert not await store.drop_secret(web.id, "TOKEN")
    left = [(one.project, one.name) for one in await given(store, web.id, app.id)]
    assert left == [(web.id, "KEY"), (app.id, "TOKEN")]
    assert [one.project for one in await given(store, app.id)] == [app.id]


async def test_a_project_has_no_more_secrets_than_the_limit(leader: Leader) -> None:
    store = leader.store
    web, _ = await leader.project("web"), await leader.project("app")
    for n in range(MAX_SECRETS):
        await put(store, f"S{n}")
    with pytest.raises(Invalid, match=f"at most {MAX_SECRETS} secrets") as refused:
        await put(store, "ONE_MORE")
    assert refused.value.field == "name"
    assert len(await store.secrets(web.id)) == MAX_SECRETS
    assert await put(store, "S0", "new") == (2, False), "one that is there is replaced"
    assert await put(store, "S0", project="app") == (1, True), "another project has its own limit"


async def test_the_total_size_of_a_projects_secrets_is_limited(leader: Leader) -> None:
    store = leader.store
    web = await leader.project()
    half = MAX_SEALED_CHARACTERS // 2

    def long(characters: int) -> Seal:
        return lambda project, version: "x" * characters

    for name in ("A", "B"):
        assert await store.put_secret("web", name, long(half), as_file=False)
    for name, characters in (("B", half + 1), ("C", 1)):
        with pytest.raises(Invalid, match="290,000 bytes together") as refused:
            await store.put_secret("web", name, long(characters), as_file=False)
        assert refused.value.field == "value"
    assert [one.version for one in await store.secrets(web.id)] == [1, 1]
    assert await store.put_secret("web", "B", long(half - 1), as_file=False)
    assert await store.put_secret("web", "C", long(1), as_file=False)


async def test_a_sweep_goes_through_the_secrets_in_order_and_skips_those_with_the_prefix(
    leader: Leader,
) -> None:
    store = leader.store
    web, app = await leader.project("web"), await leader.project("app")
    for name, project in (("B", "web"), ("A", "web"), ("A", "app")):
        await put(store, name, project=project)
    await put(store, "C", "new")
    everything = await store.sealed_texts(SECRET, FIRST, "sealed:new", 10)
    assert everything == [
        SealedText(SECRET, web.id, "A", 1, f"sealed:x:{web.id}:1"),
        SealedText(SECRET, web.id, "B", 1, f"sealed:x:{web.id}:1"),
        SealedText(SECRET, app.id, "A", 1, f"sealed:x:{app.id}:1"),
    ]
    assert await store.sealed_texts(SECRET, FIRST, "sealed:new", 2) == everything[:2]
    assert await store.sealed_texts(SECRET, (web.id, "A"), "sealed:new", 2) == everything[1:]
    assert await store.sealed_texts(SECRET, (app.id, "A"), "sealed:new", 2) == []


@pytest.mark.parametrize("kind", [WEBHOOK_SECRET, GIT_CREDENTIALS])
async def test_a_sweep_goes_through_the_secrets_of_projects_in_order(
    leader: Leader, kind: str
) -> None:
    store = leader.store
    ids = []
    for name in ("web", "app", "new"):
        value = text("new" if name == "new" else "old")
        ids.append((await store.put_project(name, "{}", None, {kind: value}))[0].id)
    await leader.project("none")
    found = await store.sealed_texts(kind, FIRST, "sealed:new", 10)
    assert found == [SealedText(kind, id_, kind, 1, f"sealed:old:{id_}:1") for id_ in ids[:2]]
    assert await store.sealed_texts(kind, FIRST, "sealed:new", 1) == found[:1]
    assert await store.sealed_texts(kind, (ids[0], ""), "sealed:new", 10) == found[1:]
    assert await store.reseal([(found[0], "sealed:new:1"), (found[1], "sealed:new:2")]) == 2
    assert await store.sealed_texts(kind, FIRST, "sealed:new", 10) == []
    everything = await store.sealed_texts(kind, FIRST, "nothing", 10)
    assert [one.text for one in everything] == [
        "sealed:new:1", "sealed:new:2", f"sealed:new:{ids[2]}:1",
    ]  # fmt: skip
    assert await store.reseal([(found[0], "sealed:late")]) == 0, "it is another one by now"


async def test_a_secret_that_was_set_meanwhile_is_not_replaced(leader: Leader) -> None:
    store = leader.store
    web = await leader.project()
    for name in ("A", "B"):
        await put(store, name, "old")
    a, b = await store.sealed_texts(SECRET, FIRST, "sealed:new", 10)
    await put(store, "A", "meanwhile")
    assert await store.reseal([(a, "sealed:new:a"), (b, "sealed:new:b")]) == 1
    assert [one.sealed for one in await given(store, web.id)] == [
        f"sealed:meanwhile:{web.id}:2", "sealed:new:b",
    ]  # fmt: skip

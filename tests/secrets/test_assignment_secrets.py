"""The secrets that jobs are given, and the reason for jobs that cannot be given any."""

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from boxsched.model import BoxId, JobId, Kind, ProjectId, WorkerId, WorkloadId
from boxsched.protocol.assignments import Assignment, JobSecret
from boxsched.secrets.assignment_secrets import AssignmentSecrets, refuse_on_older_worker
from boxsched.secrets.owners import of_project, sealing
from boxsched.secrets.ring import KeyRing, new_key
from boxsched.secrets.vault import Vault
from boxsched.store import Store, open_store

KEY = new_key()
VAULT = Vault(KeyRing.of(KEY, "the test"))
ME, OTHER = WorkerId(1), WorkerId(2)
PLAIN = Assignment(
    JobId(1), 1, 7, BoxId(1), 1, False, 60.0, "unit", ("make test",), {}, WorkloadId(1), 1,
    Kind.BUILD, "web", "main", None, None, None, "https://h/a/b",
)  # fmt: skip


def owned(project: ProjectId, **changes: object) -> Assignment:
    return attrs.evolve(PLAIN, owner=project, has_secrets=True, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/boxsched.sqlite", tmp_path)
    await store.open()
    yield store
    await store.close()


async def project(store: Store, name: str, **secrets: str) -> ProjectId:
    made, _ = await store.put_project(name, "{}", None)
    for secret, value in secrets.items():
        seal = sealing(VAULT, secret, value)
        await store.put_secret(name, secret, seal, as_file=secret == "KEY")
    return made.id


async def test_each_job_is_given_the_secrets_of_its_own_project(store: Store) -> None:
    web = await project(store, "web", TOKEN="a", KEY="b")
    app = await project(store, "app", TOKEN="c")
    fork = attrs.evolve(PLAIN, owner=web, has_secrets=False)
    levels = {ME: [owned(web), fork], OTHER: [owned(app), PLAIN]}
    filled = await AssignmentSecrets(store, VAULT).fill(levels)
    assert set(filled) == {ME, OTHER}
    first, of_fork = filled[ME]
    assert sorted(first.secrets, key=lambda one: one.name) == [
        JobSecret("KEY", "b", True), JobSecret("TOKEN", "a", False),
    ]  # fmt: skip
    assert (first.refusal, of_fork) == (None, fork)
    second, without = filled[OTHER]
    assert (second.secrets, without) == ((JobSecret("TOKEN", "c", False),), PLAIN)


async def test_nothing_is_looked_up_if_no_job_has_secrets(store: Store) -> None:
    await store.close()
    levels = {ME: [PLAIN, attrs.evolve(PLAIN, has_secrets=True)], OTHER: []}
    assert await AssignmentSecrets(store, VAULT).fill(levels) is levels


async def test_a_job_whose_secrets_cannot_be_opened_gets_a_reason_and_others_their_secrets(
    store: Store,
) -> None:
    web = await project(store, "web", TOKEN="a")
    empty = await project(store, "app")
    levels = {ME: [owned(web), owned(empty)]}
    refused, other = (await AssignmentSecrets(store, Vault(None)).fill(levels))[ME]
    assert refused.secrets == ()
    assert str(refused.refusal).startswith("the job's secrets cannot be used: this node has no key")
    assert (other.secrets, other.refusal) == ((), None)


def test_jobs_with_secrets_fail_on_a_worker_that_cannot_be_given_any() -> None:
    secret = attrs.evolve(PLAIN, secrets=(JobSecret("TOKEN", "a", False),))
    refused = attrs.evolve(PLAIN, refusal="the job's secrets cannot be used")
    assert refuse_on_older_worker([PLAIN, PLAIN]) == [PLAIN, PLAIN]
    for one in (secret, refused):
        first, second = refuse_on_older_worker([PLAIN, one])
        assert first == PLAIN
        assert (second.secrets, second.refusal, second.repository) == ((), None, None)
        assert (second.commands[-1], second.show_commands) == ("exit 1", False)
        assert "too old to be given secrets" in second.commands[0]
        assert (second.job, second.lease_token) == (one.job, one.lease_token)


def test_a_value_is_bound_to_its_project_name_and_version() -> None:
    seal = sealing(VAULT, "TOKEN", "a")
    sealed = seal(ProjectId(12), 3)
    assert of_project(ProjectId(12)) == "project/12"
    assert VAULT.open("project/12", "TOKEN", 3, sealed) == "a"

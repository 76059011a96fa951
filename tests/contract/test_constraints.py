"""Every constraint of the schema has its handling, and each is violated here."""

import asyncio
from typing import Any

import pytest

from boxsched.errors import Fenced, OutcomeUnknown
from boxsched.model import JobId
from boxsched.protocol.batches import DeployDue, DurationChange, LaneChange, Live
from boxsched.protocol.shards import Pause
from boxsched.store.blocks import Steps, parsed
from boxsched.store.constraints import RACES, SETTLED
from boxsched.store.errors import InvariantRefused
from boxsched.store.operating.session import opened
from boxsched.store.postgres.errors import LostRace
from boxsched.store.records import Token
from boxsched.store.schema import SCHEMA_VERSION
from tests.contract.conftest import DatabaseUnderTest, PostgresUnderTest
from tests.contract.postgres_sessions import asked
from tests.contract.store_data import NOW, Leader, build, key, loaded, worker
from tests.contract.test_uses import driver_of
from tests.contract.test_versions import older_schema

_COPY = {
    "event": "INSERT INTO event SELECT * FROM event",
    "idempotency": "INSERT INTO idempotency SELECT * FROM idempotency",
    "log_chunk": "INSERT INTO log_chunk SELECT * FROM log_chunk",
    "leadership": "INSERT INTO leadership SELECT * FROM leadership",
    "job": "INSERT INTO job SELECT * FROM job",
    "node": "INSERT INTO node SELECT * FROM node",
    "organization": "INSERT INTO organization SELECT * FROM organization",
    "project": "INSERT INTO project SELECT * FROM project",
    "project_version": "INSERT INTO project_version SELECT * FROM project_version",
    "set_aside": "INSERT INTO set_aside SELECT * FROM set_aside",
    "token": "INSERT INTO token SELECT * FROM token",
    "worker": "INSERT INTO worker SELECT * FROM worker",
    "workload": "INSERT INTO workload SELECT * FROM workload",
    "box": "INSERT INTO box SELECT * FROM box",
    "inbox": "INSERT INTO inbox SELECT * FROM inbox",
    "lineage": "INSERT INTO lineage SELECT * FROM lineage",
}
_ARTIFACT = (
    "INSERT INTO artifact (job, attempt, path, sha256, size, executable)"
    " SELECT 1, 1, 'p', {}, FALSE FROM blob"
)
_BLOB = "INSERT INTO blob (sha256, size, place, file, used_at) VALUES ('{}', {}, '{}', 'f', 0)"
_DELIVERY = (
    "INSERT INTO delivery (project, result, workloads, delivery_id, body_sha256, provider, event,"
    " received_at) SELECT {}, '', '', 0 FROM project"
)
_PAUSE = """INSERT INTO pause (
    organization, name, project, branch, server, automatic, note, set_by, since
)
VALUES ({})"""
_SECRET = "INSERT INTO secret (project, name, version, sealed, updated_at) VALUES ({}, 'sealed', 0)"
_SSH_SESSION = (
    "INSERT INTO ssh_session (workload, host, port, lease_token, host_key)"
    " SELECT {}, 1, 'ssh-ed25519 AAAA' FROM workload"
)
_WORKLOAD = """INSERT INTO workload (
    id, project, number, kind, lane, branch, priority, cancellation, fail_fast, boxes, state,
    created_at, queued_at
)
SELECT {id}, project, {number}, kind, {lane}, branch, priority, cancellation, fail_fast, boxes,
 state, created_at, queued_at FROM workload"""
# Statements that violate each constraint, on the rows of ``filled``.
OURS = {
    **{f"{table}_pkey": copy for table, copy in _COPY.items() if f"{table}_pkey" not in RACES},
    "artifact_sha256_fkey": _ARTIFACT.format("'0', 1"),
    "artifact_size_check": _ARTIFACT.format("sha256, -1"),
    "blob_file_key": _BLOB.format("b" * 64, 1, "folder"),
    "blob_part_first_byte_check": (
        "INSERT INTO blob_part (file, first_byte, stored_at, data)"
        " SELECT 'f', -1, 0, data FROM log_chunk"
    ),
    "blob_place_check": "UPDATE blob SET place = 'nonsense'",
    "blob_sha256_check": "UPDATE blob SET sha256 = 'a'",
    "blob_size_check": "UPDATE blob SET size = -1",
    "box_job": "UPDATE box SET job = (SELECT max(id) FROM job)",
    "box_job_fkey": "UPDATE box SET job = 7 WHERE id = (SELECT max(id) FROM box)",
    "box_ordinal_check": "UPDATE box SET ordinal = 0 WHERE id = (SELECT max(id) FROM box)",
    "box_worker_fkey": "UPDATE box SET worker = 77",
    "history_start_shard_fkey": "INSERT INTO history_start (shard, batch, at) VALUES (77, 1, 0)",
    "job_attempt_check": "UPDATE job SET attempt = -1",
    "job_check": "UPDATE job SET state = 'nonsense'",
    "job_check1": "UPDATE job SET exit_status = 1",
    "job_check2": "UPDATE job SET state = 'assigned'",
    "job_expected_seconds_check": "UPDATE job SET expected_seconds = -1",
    "job_timeout_seconds_check": "UPDATE job SET timeout_seconds = 0",
    "job_history_expected_seconds_check": (
        "INSERT INTO job_history (project, job_name, recent, expected_seconds)"
        " VALUES (1, 'j', '[]', -1)"
    ),
    "job_history_project_fkey": (
        "INSERT INTO job_history (project, job_name, recent, expected_seconds)"
        " VALUES (77, 'j', '[]', 1)"
    ),
    "lane_count_project_fkey": (
        "INSERT INTO lane_count (lane, project, superseded) VALUES ('77/branch/x', 77, 1)"
    ),
    "lane_count_superseded_check": (
        "INSERT INTO lane_count (lane, project, superseded) VALUES ('1/branch/x', 1, 0)"
    ),
    "leadership_shard_fkey": (
        "INSERT INTO leadership (shard, epoch, batch, node) VALUES (77, 1, 1, 'n')"
    ),
    "lineage_id_key": (
        "INSERT INTO lineage (number, id, began_at) SELECT number + 1, id, began_at FROM lineage"
    ),
    "log_chunk_check": "UPDATE log_chunk SET end_byte = first_byte",
    "log_chunk_first_byte_check": "UPDATE log_chunk SET first_byte = -1",
    "log_file_file_key": "INSERT INTO log_file SELECT job + 1, attempt, file, size FROM log_file",
    "log_file_size_check": "UPDATE log_file SET size = -1",
    "organization_lost_retries_check": "UPDATE organization SET lost_retries = 11",
    "organization_max_boxes_check": "UPDATE organization SET max_boxes = -1",
    "organization_name_key": (
        "INSERT INTO organization (id, name, policy, shard) VALUES (2, 'default', 'strict', 2)"
    ),
    "organization_policy_check": "UPDATE organization SET policy = 'nonsense'",
    "organization_priority_aging_check": "UPDATE organization SET priority_aging = 0",
    "organization_shard": (
        "INSERT INTO organization (id, name, policy, shard) VALUES (2, 'other', 'strict', 1)"
    ),
    "pause_check": _PAUSE.format("1, 'p', 1, 'b', 's', TRUE, '', '', 0"),
    "pause_check1": _PAUSE.format("1, 'p', NULL, 'b', NULL, TRUE, '', '', 0"),
    "pause_organization_fkey": _PAUSE.format("77, 'p', NULL, NULL, NULL, TRUE, '', '', 0"),
    "delivery_body": _DELIVERY.format("min(id), 'created', '[]', NULL, 'b'"),
    "delivery_check": _DELIVERY.format("min(id), 'ignored', '[]', NULL, 'c'"),
    "delivery_check1": _DELIVERY.format("min(id), 'ignored', '[]', 'c', NULL"),
    "delivery_name": _DELIVERY.format("min(id), 'created', '[]', 'd', 'c'"),
    "delivery_pkey": "INSERT INTO delivery (id, project, provider, event, received_at, result,"
    " workloads) SELECT id, project, '', '', 0, 'ignored', '[]' FROM delivery",
    "delivery_project_fkey": _DELIVERY.format("77, 'ignored', '[]', NULL, NULL"),
    "delivery_result_check": _DELIVERY.format("min(id), 'nonsense', '[]', NULL, NULL"),
    "notification_check": "UPDATE notification SET done_at = 1",
    "notification_pkey": "INSERT INTO notification (id, workload, target, host, event, at, since,"
    " due_at) SELECT id, workload, target, host, event, at, since, due_at FROM notification",
    "notification_state_check": "UPDATE notification SET state = 'nonsense', done_at = 1",
    "notification_workload_fkey": "UPDATE notification SET workload = 77",
    "outgoing_project_fkey": "UPDATE outgoing SET project = 77",
    "pause_project_fkey": _PAUSE.format("1, 'p', 77, NULL, NULL, TRUE, '', '', 0"),
    "project_version_project_fkey": "UPDATE project_version SET project = 77",
    "project_version_version_check": "UPDATE project_version SET version = 0",
    "project_max_boxes_check": "UPDATE project SET max_boxes = -1",
    "project_organization_fkey": "UPDATE project SET organization = 77",
    "pruned_workload_project_fkey": (
        "INSERT INTO pruned_workload (project, workloads) VALUES (77, 1)"
    ),
    "pruned_workload_workloads_check": (
        "INSERT INTO pruned_workload (project, workloads) VALUES (1, 0)"
    ),
    "ghost_pkey": "INSERT INTO ghost (id, worker, job, attempt, lease_token, build, running, since)"
    " SELECT id, worker, job, attempt, 9, FALSE, TRUE, 0 FROM ghost",
    "ghost_worker_fkey": "UPDATE ghost SET worker = 77",
    "deploy_due_build_fkey": "INSERT INTO deploy_due (build, server) VALUES (77, 's')",
    "schedule_project_fkey": (
        "INSERT INTO schedule (project, cron, time_zone, branch, version, next_at, decided_at)"
        " VALUES (77, '@daily', '', 'b', 1, 0, 0)"
    ),
    "ssh_session_check": _SSH_SESSION.format("max(id), 'h', NULL"),
    "ssh_session_port_check": _SSH_SESSION.format("max(id), 'h', 65536"),
    "ssh_session_workload_fkey": _SSH_SESSION.format("77, 'h', 22"),
    "secret_project_fkey": _SECRET.format("77, 'A', 1"),
    "secret_version_check": _SECRET.format("1, 'A', 0"),
    "server_live_project_fkey": (
        "INSERT INTO server_live (project, server, workload) SELECT 77, 's', max(id) FROM workload"
    ),
    "server_live_workload_fkey": (
        "INSERT INTO server_live (project, server, workload) VALUES (1, 's', 77)"
    ),
    "token_max_workers_check": "UPDATE token SET max_workers = 0",
    "token_organization_fkey": "UPDATE token SET organization = 77",
    "token_limited_role_check": "UPDATE token SET limited_role = 'nonsense'",
    "worker_start_check": "UPDATE worker SET start = ''",
    "token_role_check": "UPDATE token SET role = 'nonsense'",
    "worker_lost_after_check": "UPDATE worker SET lost_after = 0",
    "worker_organization_fkey": "UPDATE worker SET organization = 77",
    "worker_stop_grace_check": "UPDATE worker SET stop_grace = -1",
    "worker_state_check": "UPDATE worker SET state = 'nonsense'",
    "workload_boxes_check": "UPDATE workload SET boxes = -1",
    "workload_cancellation_check": "UPDATE workload SET cancellation = 'nonsense'",
    "workload_check": "UPDATE workload SET kind = 'nonsense'",
    "workload_check1": "UPDATE workload SET state = 'nonsense'",
    "workload_check2": "UPDATE workload SET finished_at = 1",
    "workload_lane": _WORKLOAD.format(id="id + 1", number="number + 1", lane="lane"),
    "workload_priority_check": "UPDATE workload SET priority = 101",
    "workload_project_fkey": "UPDATE workload SET project = 77",
    "workload_project_number_key": _WORKLOAD.format(id="id + 1", number="number", lane="'x'"),
    "workload_stop_cause_check": "UPDATE workload SET stop_cause = 'nonsense'",
}
ONLY_ON_POSTGRES = {  # SQLite cannot add it to an existing table
    "project_organization_fkey",
    "worker_organization_fkey",
}
CATALOG = """
SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
 UNION
SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace
"""


def statement(text: str) -> Steps[list[tuple[Any, ...]]]:
    return (yield parsed("of_a_test", f"-- For a test.\n-- returns: nothing\n{text};\n")())


async def filled(leader: Leader) -> None:
    store = leader.store
    done = await leader.submit(build(await leader.project(), idempotency=key("k")))
    await leader.queue(done.id)
    await store.append_log([(JobId(done.id << 10), 1, 0, b"x")])
    await store.put_token(Token("t", "d" * 64, "admin", "n", NOW))
    await store.put_node("n", "http://n", "1")
    await store.ask(1, [("odd", b"[]")])
    text = (
        "INSERT INTO set_aside (id, shard, kind, payload, error, at) VALUES (1, 1, 'k', '', '', 0)"
    )
    await driver_of(store).serving.write(statement, text)
    text = (
        "INSERT INTO lineage (number, id, began_at) SELECT 1, 'of a test', 0"
        " WHERE NOT EXISTS (SELECT 1 FROM lineage)"
    )
    await driver_of(store).serving.write(statement, text)
    text = (
        "INSERT INTO outgoing (project, name, url, host, events)"
        " SELECT min(id), 'hook', 'u', 'h', 'e' FROM project"
    )
    await driver_of(store).serving.write(statement, text)
    await driver_of(store).serving.write(statement, _BLOB.format("a" * 64, 1, "folder"))
    text = "INSERT INTO log_file (job, attempt, file, size) VALUES (1, 1, 'f', 1)"
    await driver_of(store).serving.write(statement, text)
    text = _DELIVERY.format("min(id), 'created', '[]', 'd', 'b'")
    await driver_of(store).serving.write(statement, text)
    text = (
        "INSERT INTO notification (workload, target, host, event, at, since, due_at)"
        " SELECT min(id), 'hook', 'h', 'e', 0, 0, 0 FROM workload"
    )
    await driver_of(store).serving.write(statement, text)
    text = (
        "INSERT INTO ghost (worker, job, attempt, lease_token, build, running, since)"
        " SELECT min(id), 1, 1, 1, FALSE, TRUE, 0 FROM worker"
    )
    await driver_of(store).serving.write(statement, text)
    text = "INSERT INTO event (shard, batch, n, type, at, data) VALUES (1, 0, 1, 'x', 0, '{}')"
    await driver_of(store).serving.write(statement, text)


async def test_every_constraint_has_its_handling(postgres_db: PostgresUnderTest) -> None:
    import psycopg2

    await postgres_db.open()
    raw = psycopg2.connect(postgres_db.url)
    found = {name for (name,) in asked(raw, CATALOG)}
    raw.close()
    assert found == RACES | SETTLED | OURS.keys()
    assert not (RACES & SETTLED or RACES & OURS.keys() or SETTLED & OURS.keys())


async def test_errors_that_only_a_bug_can_cause_are_raised(
    leader: Leader, db: DatabaseUnderTest
) -> None:
    await filled(leader)
    met = set()
    for name, text in OURS.items():
        if name in ONLY_ON_POSTGRES and db.url.startswith("sqlite"):
            continue
        with pytest.raises(InvariantRefused) as caught:
            await driver_of(leader.store).serving.write(statement, text)
        met.add(name)
        if db.url.startswith("postgres"):
            assert f'"{name}"' in caught.value.message
    assert len(met) >= len(OURS) - len(ONLY_ON_POSTGRES)


async def test_a_batch_without_a_number_is_fenced(leader: Leader) -> None:
    with pytest.raises(Fenced):
        await driver_of(leader.store).serving.write(statement, "UPDATE shard SET batch = NULL")


async def test_a_lost_race_is_repeated(postgres_db: PostgresUnderTest) -> None:
    """SQLite has one writer, so no races."""
    leader = await Leader(await postgres_db.open()).lead()
    await filled(leader)
    texts = {
        "idempotency_pkey": _COPY["idempotency"],
        "log_chunk_pkey": _COPY["log_chunk"],
        "worker_name_key": "INSERT INTO worker (name, address, state) SELECT name, '', 'connected'"
        " FROM worker",
        "worker_identity": "INSERT INTO worker (name, address, state, identity) SELECT 'other', '',"
        " 'connected', identity FROM worker",
    }
    assert texts.keys() == RACES
    for name, text in texts.items():
        with pytest.raises(LostRace) as caught:
            await driver_of(leader.store).serving.write(statement, text)
        assert name in caught.value.message
        assert not isinstance(caught.value, OutcomeUnknown)


async def test_settled_statements_conflict_with_no_other(leader: Leader) -> None:
    store = leader.store
    token = Token("t", "d" * 64, "admin", "n", NOW)
    for _ in range(2):
        await asyncio.gather(
            leader.project(),
            store.put_token(token),
            store.put_node("n", "http://n", "1"),
            store.put_session("d", "p", NOW),
            store.open_shards(2),
            store.connect_worker(worker("w", "default", "mac")),
            store.put_pause(Pause("p", None, None, None, False, "note", "ann", NOW, None)),
        )


async def test_an_existing_name_is_no_second_project(leader: Leader) -> None:
    """``project_name``, from concurrent transactions."""
    made = await asyncio.gather(*(leader.store.put_project("web", "{}", None) for _ in range(8)))
    assert sorted(created for _, created in made) == [False] * 7 + [True]
    assert len({project.id for project, _ in made}) == 1
    assert sorted(project.version for project, _ in made) == list(range(1, 9))


async def test_existing_durations_are_replaced(leader: Leader) -> None:
    """``job_history_pkey``."""
    project = (await leader.project()).id
    for recent in ((1.0,), (1.0, 2.0)):
        await leader.commit(durations=(DurationChange(project, "j", recent, recent[-1]),))
    state = (await loaded(leader.store)).state
    assert state.durations == {(project, "j"): (1.0, 2.0)}


async def test_an_existing_count_is_replaced(leader: Leader) -> None:
    """``lane_count_pkey``."""
    project = (await leader.project()).id
    lane = f"{project}/branch/main"
    for superseded in (1, 2):
        await leader.commit(lanes=(LaneChange(lane, project, superseded),))
    state = (await loaded(leader.store)).state
    assert state is not None and state.superseded == {lane: 2}
    await leader.commit(lanes=(LaneChange(lane, project, 0),))
    state = (await loaded(leader.store)).state
    assert state is not None and state.superseded == {}


async def test_the_live_deploy_is_replaced_and_due_deploys_stay(leader: Leader) -> None:
    """``server_live_pkey`` and ``deploy_due_pkey``."""
    project = (await leader.project()).id
    first, second = [await leader.submit(build(await leader.project())) for _ in range(2)]
    for done in (first, second):
        due = (DeployDue(first.id, "production"),)
        await leader.commit(live=(Live(project, "production", done.id),), deploys_due=due)
    states = await leader.store.server_states(project, ["production", "staging"])
    assert [states[name].live for name in ("production", "staging")] == [second.id, None]
    assert await leader.store.deploys_due(10) == [DeployDue(first.id, "production")]
    await leader.store.drop_due(DeployDue(first.id, "production"))
    assert await leader.store.deploys_due(10) == []


async def test_an_upgrade_replaces_existing_facts(db: DatabaseUnderTest) -> None:
    """``meta_pkey``: an upgrade writes them again."""
    older_schema(db, SCHEMA_VERSION - 1)
    assert await (await db.open()).cluster() == "abc"
    await db.close()
    with opened(db.url) as session:
        assert session.said()["schema"] == str(SCHEMA_VERSION)


async def test_several_nodes_may_prepare_a_database_at_once(postgres_db: PostgresUnderTest) -> None:
    """``meta_pkey`` and ``shard_pkey``."""
    stores = await asyncio.gather(*(postgres_db.open(f"node-{n}") for n in range(4)))
    await asyncio.gather(*(store.open_shards(3) for store in stores))
    assert len({await store.cluster() for store in stores}) == 1

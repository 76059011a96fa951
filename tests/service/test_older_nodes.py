"""Nothing new is used while a node of an earlier version is alive: it would not understand it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import psycopg2
import pytest

from boxsched.cluster.standing import NodeStanding
from boxsched.node import node as node_module
from tests.contract.postgres_server import database, served
from tests.service.running_service import API, RunningService, job

# As a program of the fifth schema starts.
OLD_START = """
INSERT INTO node (name, url, version, started_at) VALUES ('old', 'http://old', '0.1.0', 7)
ON CONFLICT (name) DO UPDATE
   SET url = excluded.url, version = excluded.version, started_at = excluded.started_at
"""
NEWER = [
    ({"jobs_from": "a.yml", "repository": "https://h/a"}, "jobs_from"),
    ({"clone": {"depth": 1}, "repository": "https://h/a"}, "clone"),
    ({"jobs": [job("a"), job("b", parallelism=2)]}, "jobs[1].parallelism"),
    ({"jobs": [job("a", image="debian:12")]}, "jobs[0].image"),
    ({"servers": {"live": {"queue": "newest"}}}, "servers.live.queue"),
    ({"servers": {"live": {"jobs": [job(parallelism=2)]}}}, "servers.live.jobs[0].parallelism"),
    ({"cancellation": [["*", "all", {"spare_after": 2}]]}, "cancellation[0]"),
]


@attrs.define
class Mixed:
    """A service whose cluster has another node."""

    service: RunningService
    url: str

    def start_old(self) -> None:
        raw = psycopg2.connect(self.url)
        raw.autocommit = True
        with raw.cursor() as cursor:
            cursor.execute(OLD_START)
        raw.close()

    async def start_new(self) -> None:
        await self.service.node.store.put_node("old", "http://old", "0.2.0")


@pytest.fixture
async def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mixed]:
    """Every node that was started is alive."""
    standing = node_module.standing

    def all_alive(*of: Any) -> list[NodeStanding]:
        return [attrs.evolve(one, alive=True) for one in standing(*of)]

    monkeypatch.setattr(node_module, "standing", all_alive)
    with served() as server, database(server.url("postgres")) as url:
        async with RunningService.open(tmp_path / "data", boxes=0, database=url) as service:
            yield Mixed(service, url)


async def test_new_settings_are_refused_until_all_nodes_know_them(mixed: Mixed) -> None:
    mixed.start_old()
    assert (await mixed.service.project("plain", max_boxes=2)).status == 201
    for settings, field in NEWER:
        answer = await mixed.service.project(**settings)
        assert (answer.status, answer.error.get("field")) == (409, field)
        assert "the node old has an earlier version" in answer.error["message"]
    await mixed.start_new()
    for settings, _ in NEWER:
        assert (await mixed.service.project(**settings)).status in (200, 201)
    mixed.start_old()
    assert (await mixed.service.project("another", **NEWER[0][0])).status == 409


async def test_new_commands_are_refused_until_all_nodes_know_them(mixed: Mixed) -> None:
    service = mixed.service
    await service.project()
    build = await service.build()
    asked = (
        ("PUT", f"{API}/pauses/p", {"note": "x"}),
        ("POST", f"{API}/workloads/{build['id']}/priority", {"priority": 60, "note": "x"}),
    )
    mixed.start_old()
    for method, path, body in asked:
        answer = await service.call(method, path, body)
        assert (answer.status, answer.error["code"]) == (409, "conflict")
    await mixed.start_new()
    for method, path, body in asked:
        assert (await service.call(method, path, body)).status in (201, 202)

"""``boxsched worker --check`` tries everything, says what is wrong, and registers no worker."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxsched.cli import main
from boxsched.protocol import wire
from boxsched.worker.agent.site import FolderInUse
from boxsched.worker.supervisor import safe_files
from tests.worker.certificates import Authority
from tests.worker.fake_node import TOKEN
from tests.worker.nodes_and_workers import NodesAndWorkers


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BOXSCHED_")]:
        monkeypatch.delenv(name)


async def check(data: Path, *options: str) -> Result:
    """Run the command in a thread, since the nodes run in this loop."""
    given = ("--data", str(data), "--token", TOKEN, "--box-driver", "process", *options)
    return await asyncio.to_thread(CliRunner().invoke, main, ["worker", "--check", *given])


def lines(ended: Result) -> list[tuple[str, ...]]:
    return [tuple(line.split("\t")) for line in ended.stdout.splitlines()]


async def test_a_worker_that_would_work_passes_each_check(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    ended = await check(cluster.folder / "data", "--url", node.url)
    assert ended.exit_code == 0, ended.output
    assert [line[:2] for line in lines(ended)] == [
        ("ok", "data folder"),
        ("ok", "git"),
        ("ok", "Box driver"),
        ("ok", "name"),
        ("ok", "node"),
    ]
    assert "accepts this worker; WebSocket" in lines(ended)[-1][2]
    assert not node.hellos  # no worker was registered


async def test_what_is_wrong_is_said_and_the_rest_is_tried(
    cluster: NodesAndWorkers, tmp_path: Path
) -> None:
    refusing = await cluster.node(token="another")
    good = await cluster.node()
    authority = Authority(tmp_path)
    secured = await cluster.node(tls=authority.server())
    urls = ("http://127.0.0.1:1", refusing.url, secured.url, good.url)
    options = [option for url in urls for option in ("--url", url)]
    ended = await check(cluster.folder / "data", *options, "--json")
    assert ended.exit_code == 1
    told: dict[str, Any] = json.loads(ended.stdout)
    assert told["ok"] is False
    nodes = [one for one in told["checks"] if one["what"] == "node"]
    assert [one["ok"] for one in nodes] == [False, False, False, True]
    assert "nothing listens there" in nodes[0]["text"]
    assert "the token is invalid or expired" in nodes[1]["text"]
    assert "its certificate is not valid" in nodes[2]["text"]


async def test_a_name_without_address_and_a_folder_without_rights_are_found(
    cluster: NodesAndWorkers, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    ended = await check(tmp_path / "file" / "data", "--url", "http://no-such-name.invalid")
    assert ended.exit_code == 1
    found = {line[1]: line for line in lines(ended)}
    assert found["data folder"][0] == "WRONG"
    assert "choose with --data" in found["data folder"][2]
    assert found["name"][0] == "WRONG"


async def test_a_folder_in_use_is_refused_as_at_a_start(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    worker = cluster.worker(node)
    await node.connected()
    ended = await check(worker.data, "--url", node.url)
    assert ended.exit_code == 1, ended.output
    assert lines(ended)[0][0] == "WRONG"
    assert "another worker uses the data folder" in lines(ended)[0][2]
    assert lines(ended)[-1][:2] == ("ok", "node"), "the token is tried all the same"


@pytest.mark.parametrize(
    ("file", "found"),
    [
        (None, "another worker uses"),
        ("admin-token", "is the data folder of a service that is running: give the worker one"),
        ("boxsched.sqlite", "is the data folder of a service that is running: give the worker one"),
    ],
)
async def test_an_agent_in_the_folder_is_found_before_any_connection(
    cluster: NodesAndWorkers, tmp_path: Path, file: str | None, found: str
) -> None:
    """It may be the one of a service, whose Boxes are in its own folder."""
    node = await cluster.node()
    if file is not None:
        (tmp_path / file).write_text("")
    (tmp_path / "worker").mkdir()
    at = safe_files.open_folder(str(tmp_path / "worker"))
    lock = safe_files.try_lock(at, "agent.lock")
    assert lock is not None
    try:
        with pytest.raises(FolderInUse, match=found):
            await cluster.worker(node, data=str(tmp_path)).ended()
        ended = await check(tmp_path, "--url", node.url)
    finally:
        os.close(lock)
        os.close(at)
    assert (ended.exit_code, lines(ended)[0][0]) == (1, "WRONG")
    assert found in lines(ended)[0][2]
    assert not node.hellos


async def test_what_a_node_would_refuse_is_wrong(cluster: NodesAndWorkers) -> None:
    node = await cluster.node(refusal=wire.Refused("token_taken", "another has\nit", False))
    ended = await check(cluster.folder / "data", "--url", node.url)
    assert ended.exit_code == 1
    assert lines(ended)[-1][:2] == ("WRONG", "node")
    assert lines(ended)[-1][2].endswith(": another has?it")


async def test_what_a_node_requires_is_said(cluster: NodesAndWorkers) -> None:
    node = await cluster.node(differs=("box_driver is process, not bubblewrap",))
    ended = await check(cluster.folder / "data", "--url", node.url, "--boxes", "3")
    assert ended.exit_code == 0
    but = "accepts this worker, but gives it no jobs: box_driver is process, not bubblewrap"
    assert but in lines(ended)[-1][2]
    (asked,) = node.checks
    assert (len(asked.box_types), "box_driver=process" in asked.fingerprint) == (3, True)


async def test_a_node_of_an_earlier_version_checks_the_token_only(cluster: NodesAndWorkers) -> None:
    node = await cluster.node(knows_checks=False)
    ended = await check(cluster.folder / "data", "--url", node.url)
    assert ended.exit_code == 0, ended.output
    assert "accepts the token (a node of an earlier version" in lines(ended)[-1][2]
    assert not node.hellos


async def test_json_is_only_for_the_check(tmp_path: Path) -> None:
    given = ["worker", "--url", "http://127.0.0.1:1", "--token", TOKEN, "--data", str(tmp_path)]
    ended = await asyncio.to_thread(CliRunner().invoke, main, [*given, "--json"])
    assert ended.exit_code == 2
    assert "--json: only with --check" in ended.stderr

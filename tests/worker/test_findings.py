"""Each finding of ``boxsched worker --check``, on machines and networks that are made up."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from boxsched.worker.agent import readiness
from boxsched.worker.remote import checking, identity
from boxsched.worker.remote.checking import MAX_NODES, Finding, check_folder, check_git, check_nodes
from boxsched.worker.remote.discovery import NodeAddress, NotFound, parse_source
from boxsched.worker.remote.polled_socket import PolledSocket
from boxsched.worker.remote.tls import TlsFiles

GIT, BASH = "/usr/bin/git", "/bin/bash"


def machine(monkeypatch: pytest.MonkeyPatch, problem: str | None) -> list[tuple[str, list[str]]]:
    """A machine with this problem; return what is tried of it: the folder and the programs."""
    tried: list[tuple[str, list[str]]] = []

    def check(folder: str, programs: list[str]) -> str | None:
        tried.append((folder, programs))
        return problem

    monkeypatch.setattr(readiness, "check", check)
    monkeypatch.setattr(readiness, "GIT", GIT)
    monkeypatch.setattr(readiness, "BASH", BASH)
    return tried


def test_a_machine_on_which_jobs_can_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = machine(monkeypatch, None)
    told = f"{tmp_path} can be used, and bash starts"
    assert check_folder(tmp_path) == Finding("data folder", True, told)
    assert check_git(tmp_path) == Finding("git", True, f"{GIT} starts")
    assert tried == [(str(tmp_path), [BASH]), (str(tmp_path), [GIT])]


def test_a_machine_on_which_they_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "bash does not answer")
    told = f"{tmp_path}: bash does not answer"
    assert check_folder(tmp_path) == Finding("data folder", False, told)
    machine(monkeypatch, "cannot start git")
    told = "cannot start git: jobs of projects with a repository fail here"
    assert check_git(tmp_path) == Finding("git", False, told)


@pytest.mark.parametrize("file", [identity.IDENTITY, identity.CLUSTER])
def test_a_folder_of_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    machine(monkeypatch, None)
    (tmp_path / file).write_bytes(b"\xff")
    told = f"{tmp_path / file} was not written by a worker: remove it"
    assert check_folder(tmp_path) == Finding("data folder", False, told)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path) -> str:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(identity, "identity", denied)
    told = f"cannot use {tmp_path}: Permission denied; choose with --data"
    assert check_folder(tmp_path) == Finding("data folder", False, told)


class Addresses:
    """Each name has these addresses; ``away.test`` has none."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def addresses(self, host: str) -> Sequence[str]:
        if host == "away.test":
            raise NotFound("no such name")
        return self._addresses

    async def services(self, name: str) -> Any:
        raise NotFound(name)


Tried = list[tuple[NodeAddress, bool]]


def network(monkeypatch: pytest.MonkeyPatch, *, answers: Sequence[bool], polls: bool) -> Tried:
    """Nodes that answer a WebSocket, long polling or both; return which were tried, and how.

    ``answers``: the kinds that are answered; True is long polling. ``polls``: a socket's kind.
    """
    tried: Tried = []

    @contextlib.asynccontextmanager
    async def connection(
        node: NodeAddress, token: str, *, polls_first: bool, tls: object
    ) -> AsyncIterator[object]:
        assert (token, tls) == ("its token", None)
        tried.append((node, polls_first))
        if polls_first not in answers:
            await asyncio.Event().wait()
        yield PolledSocket.__new__(PolledSocket) if polls else object()

    monkeypatch.setattr(checking, "connection", connection)
    return tried


async def findings(names: Addresses, *urls: str) -> list[Finding]:
    sources = [parse_source(url) for url in urls]
    """Of connections alone: the nodes are not asked what they accept."""
    found = check_nodes(sources, names, lambda: "its token", TlsFiles(), None)
    return [one async for one in found]


async def test_a_node_is_reached_by_a_web_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = network(monkeypatch, answers=[False], polls=False)
    node = await findings(Addresses(), "http://192.0.2.7:8080")
    assert node[0] == Finding("name", True, "http://192.0.2.7:8080: 1 address")
    assert node[1].ok
    assert node[1].text.startswith("http://192.0.2.7:8080: accepts the token; WebSocket; ")
    assert [how for _, how in tried] == [False]


async def test_a_node_is_reached_by_long_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CONNECT_SECONDS", 0.01)
    tried = network(monkeypatch, answers=[True], polls=True)
    _, node = await findings(Addresses(), "http://192.0.2.7:8080")
    assert node.ok
    assert "; long polling, since WebSockets do not get through; " in node.text
    assert [how for _, how in tried] == [False, True]


async def test_a_node_that_answers_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CONNECT_SECONDS", 0.01)
    tried = network(monkeypatch, answers=[], polls=False)
    _, node = await findings(Addresses(), "http://192.0.2.7:8080")
    assert node == Finding("node", False, "http://192.0.2.7:8080: no answer within 0.01 s")
    assert [how for _, how in tried] == [False, True]


async def test_all_addresses_of_all_names_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = network(monkeypatch, answers=[False], polls=False)
    names = Addresses("192.0.2.7", "192.0.2.8")
    urls = ("http://away.test", "http://nodes.test", "http://nodes.test")
    found = await findings(names, *urls)
    assert found[:3] == [
        Finding("name", False, "http://away.test: no such name"),
        Finding("name", True, "http://nodes.test: 2 addresses"),
        Finding("name", True, "http://nodes.test: 2 addresses"),
    ]
    assert [node.ip for node, _ in tried] == ["192.0.2.7", "192.0.2.8"]
    assert [one.ok for one in found[3:]] == [True, True]


@pytest.mark.parametrize("more", [0, 3])
async def test_a_limited_number_of_nodes_is_tried(
    monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    tried = network(monkeypatch, answers=[False], polls=False)
    names = Addresses(*(f"192.0.2.{n}" for n in range(MAX_NODES + more)))
    last = (await findings(names, "http://nodes.test"))[-1]
    assert len(tried) == MAX_NODES
    assert last.ok
    assert (last.text == f"{more} more nodes were not tried") is (more > 0)

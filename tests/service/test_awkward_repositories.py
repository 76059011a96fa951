"""Repositories that hang, are large, vanish, require a password, or change while they are read."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.automation import backlog, plans, repositories
from boxsched.model import Kind
from tests.contract.store_data import build
from tests.git_server import git, repository
from tests.service.running_service import API, RunningService, job

FILE = "jobs: [{name: unit, commands: [cat which], show_commands: false}]\n"
FILES = {"which": "first\n", "__boxsched__yml": FILE}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make only two tries, without a pause between them."""
    monkeypatch.setattr(plans, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(plans, "LAST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def web(tmp_path: Path) -> Path:
    return repository(tmp_path / "web", **FILES)


async def project(
    service: RunningService, url: object, name: str = "web", **settings: object
) -> None:
    answer = await service.project(
        name, repository=str(url), jobs=[], jobs_from=".boxsched.yml", **settings
    )
    assert answer.status in (200, 201), answer.body


async def reason(service: RunningService, **asked: Any) -> str:
    done = await service.finished((await service.build(**asked))["id"])
    assert (done["result"], done["started_at"]) == ("failed", None)
    return str(done["reason"])


# --- Repositories that hang ---------------------------------------------------------------------


@attrs.define(eq=False)
class Silent:
    """A server that accepts connections and never answers."""

    port: int = 0
    connections: int = 0  # open connections
    most: int = 0
    news: asyncio.Condition = attrs.field(factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._count(1)
        try:
            while await reader.read(65_536):
                pass
        except OSError:
            pass
        writer.close()
        await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self.news:
            self.connections += change
            self.most = max(self.most, self.connections)
            self.news.notify_all()

    async def until(self, connections: int) -> None:
        async with asyncio.timeout(60), self.news:
            await self.news.wait_for(lambda: self.connections == connections)


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    found = Silent()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


async def test_a_repository_that_hangs_is_given_up(
    boxless_service: RunningService, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MAX_SECONDS", 0.5)
    await project(boxless_service, f"https://127.0.0.1:{silent.port}/web")
    assert await reason(boxless_service) == ".boxsched.yml: git took more than 0.5 s"
    await silent.until(0)


async def test_repositories_that_hang_leave_turns_to_others(
    boxless_service: RunningService, silent: Silent, web: Path, tmp_path: Path
) -> None:
    """Three projects with such repositories take six of the eight turns, and no more."""
    for name in ("a", "b", "c"):
        await project(boxless_service, f"https://127.0.0.1:{silent.port}/{name}", name)
        for _ in range(4):
            await boxless_service.build(name)
    most = 3 * backlog.AT_ONCE_OF_A_PROJECT
    assert most < backlog.AT_ONCE
    await silent.until(most)
    await project(boxless_service, web)
    made = await boxless_service.build()
    await boxless_service.until(made["id"], boxes=1)
    assert silent.most == most
    left = list((tmp_path / "data").glob("plan-*"))
    assert len(left) == most
    await boxless_service.node.store.ready()


async def test_a_node_that_stops_leaves_no_git_process(tmp_path: Path, silent: Silent) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await project(service, f"https://127.0.0.1:{silent.port}/web")
        await service.build()
        await silent.until(1)
    await silent.until(0)
    assert list((tmp_path / "data").glob("plan-*")) == []


async def test_files_that_a_killed_node_left_are_removed(tmp_path: Path, web: Path) -> None:
    left = tmp_path / "data" / "plan-abc" / "objects"
    left.mkdir(parents=True)
    (left / "pack").write_bytes(b"x")
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await project(service, web)
        await service.until((await service.build())["id"], boxes=1)
    assert list((tmp_path / "data").glob("plan-*")) == []


async def test_a_node_without_disk_space_tries_again(
    boxless_service: RunningService, web: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await project(boxless_service, web)
    monkeypatch.setattr(repositories, "_PREFIX", "no/such/folder/")
    assert await reason(boxless_service) == (
        ".boxsched.yml: the node cannot run git: No such file or directory"
    )


# --- Large repositories -------------------------------------------------------------------------


def add_large_file(folder: Path) -> None:
    (folder / "large").write_bytes(os.urandom(8 << 20))
    git(folder, "add", "large")
    git(folder, "commit", "--quiet", "-m", "a large file")


async def test_large_files_of_a_repository_are_not_fetched(
    boxless_service: RunningService, web: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MAX_FETCH_BYTES", 1 << 20)
    add_large_file(web)
    git(web, "config", "uploadpack.allowFilter", "true")
    await project(boxless_service, web)
    made = await boxless_service.build()
    await boxless_service.until(made["id"], boxes=1)


async def test_a_server_that_sends_them_anyway_is_cut_off(
    boxless_service: RunningService, web: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(repositories, "MAX_FETCH_BYTES", 1 << 20)
    add_large_file(web)
    await project(boxless_service, web)
    assert await reason(boxless_service) == (
        ".boxsched.yml: git would fetch more than 1 MiB: allow partial clones on the "
        "repository's server (uploadpack.allowFilter)"
    )
    assert list((tmp_path / "data").glob("plan-*")) == []


# --- Repositories that change -------------------------------------------------------------------


async def test_a_build_of_a_repository_that_vanishes_fails_with_the_reason(
    boxless_service: RunningService, web: Path
) -> None:
    await project(boxless_service, web)
    web.rename(web.with_name("elsewhere"))
    assert f"there is no repository at {web}: check" in await reason(boxless_service)


async def test_a_build_of_a_branch_that_vanishes_fails_with_the_reason(
    boxless_service: RunningService, web: Path
) -> None:
    await project(boxless_service, web)
    said = await reason(boxless_service, branch="gone")
    assert said.startswith(f".boxsched.yml: there is no branch gone in {web}: check the name")


async def test_a_branch_that_moves_after_its_file_was_read(tmp_path: Path, web: Path) -> None:
    """The job runs the commit of the file, wherever the branch is by then."""
    async with RunningService.open(tmp_path / "data", box_driver="process") as service:
        await project(service, web)
        await service.call("PUT", f"{API}/pauses/moving", {"note": "until it has moved"})
        made = await service.build()
        planned = await service.until(made["id"], boxes=1)
        first = git(web, "rev-parse", "HEAD")
        (web / "which").write_text("second\n")
        git(web, "commit", "--quiet", "--amend", "-a", "-m", "another")
        await service.call("DELETE", f"{API}/pauses/moving")
        done = await service.finished(made["id"])
        log = await service.call("GET", f"{API}/jobs/{done['jobs'][0]['id']}/log")
        assert (planned["commit"], done["commit"], log.body) == (first, first, b"first\n")


@pytest.mark.parametrize(("target", "name"), [(None, "unit"), ("main", "unit"), ("1.x", "older")])
async def test_a_fork_has_the_file_of_the_target_branch_and_its_own_commit(
    tmp_path: Path, web: Path, target: str | None, name: str
) -> None:
    git(web, "checkout", "--quiet", "-b", "1.x")
    (web / ".boxsched.yml").write_text(FILE.replace("unit", "older"))
    git(web, "commit", "--quiet", "-a", "-m", "older")
    git(web, "checkout", "--quiet", "--detach", "main")
    (web / "which").write_text("of the fork\n")
    (web / ".boxsched.yml").write_text(FILE.replace("unit", "hostile"))
    git(web, "commit", "--quiet", "-a", "-m", "of the fork")
    proposed = git(web, "rev-parse", "HEAD")
    git(web, "update-ref", "refs/pull/1/head", proposed)
    git(web, "checkout", "--quiet", "main")
    async with RunningService.open(tmp_path / "data", box_driver="process") as service:
        await project(service, web)
        stored = await service.node.store.project("web")
        assert stored is not None
        new = build(
            stored, "pull-request-1", jobs=(), commit=proposed, message=None, from_fork=True,
            kind=Kind.BUILD, target_branch=target,
        )  # fmt: skip
        submitted = await service.node.submit(new)
        done = await service.finished(f"w{submitted.id}")  # type: ignore[union-attr]
        assert [one["name"] for one in done["jobs"]] == [name]
        log = await service.call("GET", f"{API}/jobs/{done['jobs'][0]['id']}/log")
        assert (done["commit"], log.body) == (proposed, b"of the fork\n")


# --- Invalid files ------------------------------------------------------------------------------

LIMIT = repositories.MAX_FILE_BYTES


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"#" * (LIMIT + 1), f"the file has more than {LIMIT} bytes"),
        (os.urandom(2_000) + b"\xff", "the file is not UTF-8"),
        (b"jobs: [{name: a, commands: [\x00]}]", "the character '\\x00' is not allowed"),
        (b"jobs: !!python/object/apply:os.system [x]", "the tag "),
        (b"!!set {jobs, version}", "the tag "),
        (b"jobs: &a [*a]", "more than 20000 values"),
        (b"a: &a [1]\n<<: *a\njobs: []", "a key must be a string"),
    ],
)
async def test_an_invalid_file_is_reported(
    boxless_service: RunningService, web: Path, data: bytes, said: str
) -> None:
    (web / ".boxsched.yml").write_bytes(data)
    git(web, "commit", "--quiet", "-a", "-m", "another")
    await project(boxless_service, web)
    assert said in await reason(boxless_service)


async def test_a_file_of_the_largest_size_is_read(
    boxless_service: RunningService, web: Path
) -> None:
    (web / ".boxsched.yml").write_bytes(FILE.encode().ljust(LIMIT, b"#"))
    git(web, "commit", "--quiet", "-a", "-m", "another")
    await project(boxless_service, web)
    await boxless_service.until((await boxless_service.build())["id"], boxes=1)


@pytest.mark.parametrize("kind", ["a folder", "a submodule", "a link", "below a link"])
async def test_a_path_without_a_file_is_reported(
    boxless_service: RunningService, web: Path, kind: str
) -> None:
    path = ".boxsched.yml"
    git(web, "rm", "--quiet", path)
    if kind == "a folder":
        (web / path).mkdir()
        (web / path / "jobs").write_text(FILE)
    elif kind == "a link":
        (web / "jobs.yml").write_text(FILE)
        (web / path).symlink_to("jobs.yml")
    elif kind == "below a link":
        (web / "real").mkdir()
        (web / "real" / "jobs.yml").write_text(FILE)
        (web / "ci").symlink_to("real")
        path = "ci/jobs.yml"
    git(web, "add", ".")
    if kind == "a submodule":
        head = git(web, "rev-parse", "HEAD")
        git(web, "update-index", "--add", "--cacheinfo", f"160000,{head},{path}")
    git(web, "commit", "--quiet", "-m", "another")
    answer = await boxless_service.project(repository=str(web), jobs=[], jobs_from=path)
    assert answer.status == 201
    assert f"there is no file {path} at commit " in await reason(boxless_service)
    assert (await boxless_service.build(jobs=[job()]))["jobs"]

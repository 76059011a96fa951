"""Reads one file of a real repository at a commit: what is found, what is refused, and the
limits."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.automation import repositories
from boxsched.automation.git_errors import Sought, Unreadable, explained
from boxsched.automation.repositories import MAX_FILE_BYTES, FoundFile, read_file
from tests.service.test_plans import Repository

MAIN = "refs/heads/main"
FILE = ".boxsched.yml"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder for temporary folders."""
    made = tmp_path / "data"
    made.mkdir()
    return made


class Reader:
    def __init__(self, repository: Repository, folder: Path) -> None:
        self.repository, self.folder = repository, folder

    async def read(self, path: str = FILE, **changes: Any) -> FoundFile:
        """Read at the head of main by default."""
        asked = {"ref": MAIN, "commit": None, **changes}
        where = asked.pop("repository", str(self.repository.place))
        async with asyncio.timeout(50):
            found = await read_file(where, path=path, folder=self.folder, **asked)
        assert list(self.folder.iterdir()) == [], "nothing is left behind"
        return found

    async def refused(self, path: str = FILE, **changes: Any) -> tuple[str, bool]:
        """Return the message, and whether the error is permanent."""
        with pytest.raises(Unreadable) as error:
            await self.read(path, **changes)
        assert list(self.folder.iterdir()) == [], "nothing is left behind"
        assert str(error.value) == error.value.message
        return error.value.message, error.value.lasting


@pytest.fixture
def reader(repository: Repository, folder: Path) -> Reader:
    return Reader(repository, folder)


async def test_a_file_is_read_at_the_head_of_a_branch_or_tag_or_at_a_commit(
    reader: Reader, repository: Repository
) -> None:
    first = repository.commit("one")
    repository.git("tag", "--annotate", "v1", "-m", "a tag")
    second = repository.commit("two")
    repository.git("checkout", "--quiet", "-b", "aside", first)
    aside = repository.commit("three")
    assert await reader.read() == FoundFile(b"two", second)
    assert await reader.read(ref="refs/tags/v1") == FoundFile(b"one", first)
    assert await reader.read(ref="refs/heads/aside") == FoundFile(b"three", aside)
    for asked in (first, first[:7], first[:39]):
        assert await reader.read(commit=asked) == FoundFile(b"one", first)
    assert await reader.read(commit=aside) == FoundFile(b"three", aside), (
        "a whole hash, of any branch"
    )
    assert await reader.refused(commit=aside[:9]) == (
        f"git found no commit {aside[:9]}, or more than one", True,
    )  # fmt: skip


async def test_what_the_repository_does_not_have_is_named_and_may_be_added_later(
    reader: Reader, repository: Repository
) -> None:
    repository.commit("one")
    there = repository.place
    for name, changes in {
        f"commit {'f' * 40}": {"commit": "f" * 40},
        "branch no/where": {"ref": "refs/heads/no/where"},
        "tag v9": {"ref": "refs/tags/v9"},
        "branch mani": {"ref": "refs/heads/mani", "commit": "f" * 8},
    }.items():
        with pytest.raises(Unreadable) as error:
            await reader.read(**changes)
        said = f"there is no {name} in {there}: check the name, or push it first"
        assert (error.value.message, error.value.lasting, error.value.missing) == (
            said,
            False,
            True,
        )
    with pytest.raises(Unreadable) as error:
        await reader.read(repository=str(there / "nowhere"))
    assert error.value.message.startswith(f"there is no repository at {there}/nowhere: check the")
    assert error.value.missing


@pytest.mark.parametrize(
    ("said", "lasting", "missing", "shown"),
    [
        ("fatal: unable to access 'https://h/': Could not resolve host: h", False, False, ""),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 503",
         False, False, ""),
        ("fatal: early EOF", False, False, ""),
        ("ssh: connect to host h port 22: Connection timed out", False, False, ""),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 403", True, False,
         "check git_credentials"),
        ("git@h: Permission denied (publickey).", True, False, "check git_credentials"),
        ("fatal: transport 'http' not allowed", True, False, "git uses https, ssh"),
        ("fatal: unable to access 'https://h/': SSL certificate problem: self-signed certificate",
         True, False, "GIT_SSL_CAINFO"),
        ("error: Server does not allow request for unadvertised object ffff", True, False,
         "name a branch"),
        ("ERROR: Repository not found.", False, True, "no repository at https://h/a"),
        ("fatal: repository 'https://h/a/' not found", False, True, "no repository at https://h/a"),
        ("fatal: remote error: upload-pack: not our ref ffff", False, True, "no branch main"),
    ],
)  # fmt: skip
def test_permanent_errors_are_distinguished_from_temporary_ones(
    said: str, lasting: bool, missing: bool, shown: str
) -> None:
    error = explained(said, Sought("https://h/a", MAIN))
    assert (error.lasting, error.missing) == (lasting, missing)
    assert shown in error.message
    assert error.message == said or shown


async def test_a_hash_prefix_that_is_not_a_commit_is_refused(
    reader: Reader, repository: Repository
) -> None:
    head = repository.commit("one")
    for other in ("^{tree}", f":{FILE}"):
        hash_ = repository.git("rev-parse", f"{head}{other}")
        said = f"git found no commit {hash_[:12]}, or more than one"
        assert await reader.refused(commit=hash_[:12]) == (said, True)


async def test_only_a_file_is_read(reader: Reader, repository: Repository) -> None:
    repository.place.joinpath("folder").mkdir()
    repository.place.joinpath("folder", "jobs.yml").write_bytes(b"inner")
    repository.place.joinpath("program").write_bytes(b"can run")
    repository.place.joinpath("program").chmod(0o755)
    repository.place.joinpath("link").symlink_to("program")
    repository.git("add", "folder", "program", "link")
    head = repository.commit("one")
    assert (await reader.read("folder/jobs.yml")).data == b"inner"
    assert (await reader.read("program")).data == b"can run"
    for path in ("folder", "link", "nowhere", "folder/nowhere"):
        said = f"there is no file {path} at commit {head[:12]}"
        assert await reader.refused(path) == (said, True)


@pytest.mark.parametrize("size", [MAX_FILE_BYTES, MAX_FILE_BYTES + 1, 20 * MAX_FILE_BYTES])
async def test_a_file_has_a_limit_of_bytes(
    reader: Reader, repository: Repository, size: int
) -> None:
    """Also far more than a pipe holds: git does not wait forever for a reader."""
    repository.commit("x" * size)
    if size == MAX_FILE_BYTES:
        assert len((await reader.read()).data) == size
    else:
        said = f"the file has more than {MAX_FILE_BYTES} bytes"
        assert await reader.refused() == (said, True)


async def test_a_server_that_does_not_answer_is_given_up_and_git_is_ended(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def silent(there: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        asked.set()
        with contextlib.suppress(ConnectionError):
            while await there.read(4096):
                pass
        hung_up.set()
        back.close()

    async with listening(silent) as port:
        monkeypatch.setattr(repositories, "MAX_SECONDS", 3.0)
        refused = await reader.refused(repository=f"https://127.0.0.1:{port}/x")
        assert refused == ("git took more than 3 s", False)
        async with asyncio.timeout(20):
            await asked.wait()
            await hung_up.wait()


@contextlib.asynccontextmanager
async def listening(answer: Any) -> AsyncIterator[int]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_cancelled_reader_ends_git_and_leaves_nothing(reader: Reader, folder: Path) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def silent(there: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        asked.set()
        with contextlib.suppress(ConnectionError):
            while await there.read(4096):
                pass
        hung_up.set()
        back.close()

    async with listening(silent) as port, asyncio.timeout(40):
        task = asyncio.create_task(reader.read(repository=f"https://127.0.0.1:{port}/x"))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await hung_up.wait()
    assert list(folder.iterdir()) == []


async def test_a_node_without_git_reports_it(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await reader.refused() == ("git is not installed on the node", False)


async def test_git_gets_only_a_few_variables_of_the_nodes_environment(
    reader: Reader, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The account's own settings apply, but not variables that would redirect git."""
    repository.commit("one")
    home = tmp_path / "home"
    home.mkdir()
    other = f'[url "{repository.place.parent}/"]\n  insteadOf = https://git.example/\n'
    (home / ".gitconfig").write_text(other)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "none")
    assert (await reader.read(repository="https://git.example/repository")).data == b"one"


async def test_nothing_of_the_repository_or_of_the_accounts_hooks_is_executed(
    reader: Reader, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository.commit("one")
    home, ran = tmp_path / "home", tmp_path / "ran"
    hook = home / "hooks" / "reference-transaction"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    (home / ".gitconfig").write_text(f"[core]\n  hooksPath = {hook.parent}\n")
    monkeypatch.setenv("HOME", str(home))
    assert (await reader.read()).data == b"one"
    for url in (f"ext::sh -c touch% {ran}", f"--upload-pack=touch {ran}", "git://127.0.0.1:1/x"):
        message, _ = await reader.refused(repository=url)
        assert message.startswith("fatal: "), message
    assert not ran.exists()


async def test_git_errors_are_cut_to_one_line(reader: Reader, repository: Repository) -> None:
    repository.commit("one")
    long = str(repository.place) + 20 * f"/{'x' * 200}"
    message, _ = await reader.refused(repository=long)
    assert message.startswith("fatal: ")
    assert len(message) == 500


def test_of_gits_error_lines_the_fatal_one_is_shown() -> None:
    for said, shown in (
        (b"warning: w\nfatal: not  there\nfatal: again\n", "fatal: not there"),
        (b"hint: h\nerror: e\nPlease see.\n", "error: e"),
        (b"one\ntwo\n\n", "two"),
        (b"\xff\n", "\ufffd"),
        (b"", ""),
    ):
        assert repositories._error_line(said) == shown


async def test_git_has_limits_of_memory_and_of_what_it_fetches(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "git"
    fake.write_text(
        '#!/bin/sh\necho $(grep -E "^Max (file size|address)" /proc/$$/limits) >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    message, _ = await reader.refused()
    file, memory = str(256 << 20), str(3 << 30)
    assert message == (
        f"Max file size {file} {file} bytes Max address space {memory} {memory} bytes"
    )


def test_only_temporary_folders_that_a_killed_node_left_are_removed(folder: Path) -> None:
    for name in ("plan-a", "plan-b", "planned", "logs"):
        (folder / name / "inner").mkdir(parents=True)
        (folder / name / "inner" / "file").write_text("x")
    repositories.sweep(folder)
    assert {path.name for path in folder.iterdir()} == {"planned", "logs"}
    repositories.sweep(folder)


async def test_a_problem_of_the_node_is_not_lasting(reader: Reader, tmp_path: Path) -> None:
    reader.folder.rmdir()
    with pytest.raises(Unreadable, match="the node cannot run git: No such file") as error:
        await read_file("x", ref=MAIN, commit=None, path=FILE, folder=reader.folder)
    assert not error.value.lasting


async def test_a_hanging_git_can_write_long_errors(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More than a pipe holds is read, and only the start of it is kept."""
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\nhead -c 9000000 /dev/zero\nhead -c 9000000 /dev/zero >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    message, lasting = await reader.refused()
    assert (len(message), lasting) == (500, False)
    fake.write_text("#!/bin/sh\nexit 3\n")
    assert await reader.refused() == ("git init failed", False)

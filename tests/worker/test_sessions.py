"""SSH sessions with either driver, entered with OpenSSH's own programs."""

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.model import Kind
from boxsched.protocol.assignments import Assignment, JobSecret
from boxsched.states import Result
from boxsched.worker.agent.sessions import NoSession
from tests.openssh import OpenSsh, needs_openssh, needs_rsync, ran
from tests.worker.conftest import end, needs_bubblewrap
from tests.worker.harness import AgentHarness, assigned, eventually, isolated, job

pytestmark = needs_openssh
BYTES = 50_000_000
DRIVERS = ["process", pytest.param("bubblewrap", marks=needs_bubblewrap)]


@pytest.fixture
def tmp_path(reachable_folder: Path) -> Path:
    return reachable_folder


@pytest.fixture(params=DRIVERS)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AgentHarness]:
    harness = AgentHarness(tmp_path / "worker", driver=request.param, ssh_address="127.0.0.1")
    await harness.agent.start()
    yield harness
    await end(harness)


@pytest.fixture
def user(tmp_path: Path) -> OpenSsh:
    return OpenSsh.user(tmp_path / "user")


def session(number: int, user: OpenSsh, **other: Any) -> Assignment:
    return assigned(number, kind=Kind.SSH, public_key=user.public_key, **other)


async def opened(harness: AgentHarness, *wanted: Assignment) -> None:
    await harness.agent.reconcile(wanted)
    asked = {one.job for one in wanted}
    await harness.store.until(lambda: asked <= {one[0] for one in harness.store.openings})


async def entered(
    harness: AgentHarness, user: OpenSsh, *, as_: str = "box", **other: Any
) -> OpenSsh:
    """Open session 1 and return its user, who enters it directly."""
    await opened(harness, session(1, user, **other))
    return at(harness, 1, user, as_)


def at(harness: AgentHarness, number: int, user: OpenSsh, as_: str = "box") -> OpenSsh:
    (place,) = {one[2:] for one in harness.store.openings if one[0] == job(number)}
    host, port, host_key = place
    assert host is not None and port is not None
    return user.directly(host, port, host_key, as_)


async def test_a_command_has_its_output_errors_input_and_status(
    harness: AgentHarness, user: OpenSsh
) -> None:
    inside = await entered(harness, user, environment={"COLOUR": "blue"})
    ran = await inside.run('cat; echo "$COLOUR $BOXSCHED_KIND"; pwd >&2; exit 7', given=b"in\n")
    assert (ran.status, ran.out) == (7, b"in\nblue ssh\n")
    assert ran.errors.strip().endswith("/workspace")
    assert (await inside.run("kill -9 $$")).status == 255
    assert (await inside.run("cat /proc/self/cgroup")).status == 0


async def test_a_session_begins_for_readers_when_it_can_be_entered(
    harness: AgentHarness, user: OpenSsh
) -> None:
    inside = await entered(harness, user)
    await harness.store.until(lambda: harness.store.started(1))
    assert (await inside.run("true")).status == 0


async def test_files_are_copied_by_scp_and_sftp(
    harness: AgentHarness, user: OpenSsh, tmp_path: Path
) -> None:
    inside = await entered(harness, user)
    data = os.urandom(300_000)
    (tmp_path / "one").write_bytes(data)
    assert await inside.copy(f"{tmp_path}/one", ":two") == attrs.evolve(
        await inside.copy(":two", f"{tmp_path}/three", "-O"), out=b""
    )
    assert (tmp_path / "three").read_bytes() == data
    assert (await inside.run("sha256sum < two")).out.startswith(
        hashlib.sha256(data).hexdigest().encode()
    )
    batch = f"put {tmp_path}/one four\nmkdir five\nrename four five/six\nls five\n"
    listed = await inside.run("", "-b", "-", program="sftp", given=batch.encode())
    assert listed.status == 0, listed.errors
    assert b"five/six" in listed.out


@needs_rsync
async def test_rsync_carries_a_whole_tree_both_ways(
    harness: AgentHarness, user: OpenSsh, tmp_path: Path
) -> None:
    inside = await entered(harness, user)
    tree = tmp_path / "tree"
    (tree / "with space ü" / "empty").mkdir(parents=True)
    (tree / "big").write_bytes(os.urandom(3_000_000))
    (tree / "hard").hardlink_to(tree / "big")
    (tree / "link").symlink_to("with space ü/none")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o750)
    for number in range(300):
        (tree / "with space ü" / f"{number}").write_bytes(os.urandom(number))
    os.utime(tree / "run", ns=(10**18, 10**18))
    assert (await inside.synchronize(f"{tree}/", ":tree/")).status == 0
    assert (await inside.run("cd tree && ./run && rm hard && echo new > added")).status == 0
    said = (await inside.synchronize(f"{tree}/", ":tree/")).out.decode().splitlines()
    changed = {line.split()[1] for line in said if not line.startswith(".d")}  # a folder's time
    assert changed == {"added", "hard"}, said
    back = await inside.synchronize(":tree/", f"{tmp_path}/back/")
    assert back.status == 0, back.errors
    assert _contents(tmp_path / "back") == _contents(tree)


def _contents(tree: Path) -> dict[str, object]:
    """Return what rsync is to keep of each file."""
    found: dict[str, object] = {}
    for path in tree.rglob("*"):
        stat = path.lstat()
        data = path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        links = stat.st_nlink if path.is_file() else 0
        seconds = int(stat.st_mtime)  # rsync does not correct smaller differences
        found[str(path.relative_to(tree))] = (stat.st_mode, seconds, links, data)
    return found


async def test_an_editor_runs_a_script_and_many_programs_over_one_connection(
    harness: AgentHarness, user: OpenSsh, tmp_path: Path
) -> None:
    """Editors send a script to a shell, keep its connection, and open further channels in it."""
    inside = await entered(harness, user, ssh_forwarding=True)
    shared = ("-S", str(tmp_path / "control"))
    master = await asyncio.create_subprocess_exec(
        *inside.command("ssh", "-M", *shared, "-T", inside.target, "bash"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert master.stdin is not None and master.stdout is not None
    master.stdin.write(b"echo $((40 + 2)); read line\nlater\necho more $line; exit 5\n")
    assert await master.stdout.readline() == b"42\n"
    assert await master.stdout.readline() == b"more later\n"
    assert await master.wait() == 5
    script = b"cat <<'END'\nof $HOME\nEND\nexit 6\n"
    for shell in ("bash", "sh", "bash --noprofile --norc -s x"):
        done = await inside.run(shell, "-T", given=script)
        assert (done.status, done.out) == (6, b"of $HOME\n")
    keep = ("-o", "ControlMaster=auto", "-o", "ControlPersist=yes", *shared)
    assert (await inside.run("true", *keep)).status == 0
    data = [os.urandom(400_000) for _ in range(8)]
    many = [inside.run("cat", *shared, given=one) for one in data]
    assert [one.out for one in await asyncio.gather(*many)] == data
    server = await asyncio.start_server(_greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        at = tmp_path / "forwarded"
        asked = inside.command("ssh", *shared, "-O", "forward", "-L", f"{at}:127.0.0.1:{port}")
        assert (await ran([*asked, inside.target])).status == 0
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(at)
            assert await reader.read() == b"greetings"
            writer.close()
    assert harness.log().count(b" connected") == 5
    assert (await ran(inside.command("ssh", *shared, "-O", "exit", inside.target))).status == 0


async def test_another_key_and_another_user_are_refused(
    harness: AgentHarness, user: OpenSsh, tmp_path: Path
) -> None:
    inside = await entered(harness, user)
    stranger = attrs.evolve(OpenSsh.user(tmp_path / "stranger"), options=inside.options)
    (stranger.home / "known_hosts").write_text((user.home / "known_hosts").read_text())
    refused = await attrs.evolve(stranger, target=inside.target).run("true")
    assert (refused.status, refused.out) == (255, b"")
    assert "Permission denied (publickey)" in refused.errors
    as_root = attrs.evolve(inside, target=inside.target.replace("box@", "root@"))
    assert "Permission denied (publickey)" in (await as_root.run("true")).errors


async def test_a_second_session_has_another_box_key_and_host_key(
    harness: AgentHarness, user: OpenSsh, tmp_path: Path
) -> None:
    other = OpenSsh.user(tmp_path / "other")
    await opened(harness, session(1, user), session(2, other))
    first, second = at(harness, 1, user), at(harness, 2, other)
    assert harness.store.openings[0][4] != harness.store.openings[1][4]
    assert (await first.run("echo mine > file")).status == 0
    assert (await second.run("ls")).out == b""
    swapped = attrs.evolve(second, options=first.options)
    assert "Host key verification failed" in (await swapped.run("true")).errors


async def test_fifty_megabytes_arrive_to_the_byte(harness: AgentHarness, user: OpenSsh) -> None:
    inside = await entered(harness, user)
    out = await inside.run(f"head -c {BYTES} /dev/zero; head -c {BYTES // 10} /dev/zero >&2")
    assert (out.status, len(out.out), len(out.errors)) == (0, BYTES, BYTES // 10)
    back = await inside.run("wc -c", given=bytes(BYTES))
    assert back.out.strip() == str(BYTES).encode()


async def test_forwarding_is_off_unless_the_project_allows_it(
    harness: AgentHarness, user: OpenSsh
) -> None:
    inside = await entered(harness, user)
    listening = socket.create_server(("127.0.0.1", 0))
    there = f"127.0.0.1:{listening.getsockname()[1]}"
    refused = await ran(inside.command("ssh", "-W", there, inside.target))
    listening.close()
    assert refused.status == 255 and "forwarding failed" in refused.errors
    assert (await inside.run("echo $SSH_AUTH_SOCK", "-A")).out == b"\n"


async def test_forwarding_works_where_the_project_allows_it(
    harness: AgentHarness, user: OpenSsh
) -> None:
    inside = await entered(harness, user, ssh_forwarding=True)
    server = await asyncio.start_server(_greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        forwarding = inside.command("ssh", "-W", f"127.0.0.1:{port}", inside.target)
        process = await asyncio.create_subprocess_exec(
            *forwarding, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.read(9) == b"greetings"
        process.kill()
        await process.wait()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"greetings")
    await writer.drain()
    writer.close()


async def test_it_has_the_secrets_of_the_project(harness: AgentHarness, user: OpenSsh) -> None:
    secrets = (JobSecret("TOKEN", "hidden"), JobSecret("FILE", "in a file", file=True))
    inside = await entered(harness, user, secrets=secrets)
    assert (await inside.run('echo "$TOKEN"; cat "$FILE"')).out == b"hidden\nin a file"
    assert (await inside.run("env | grep -c BOXSCHED_")).status == 0


async def test_it_ends_with_the_command_of_who_opened_it(
    harness: AgentHarness, user: OpenSsh
) -> None:
    inside = await entered(harness, user, as_="box-once")
    assert (await inside.run("exit 3")).status == 3
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.PASSED, 0)
    assert b"its command or shell has ended" in harness.log()


async def test_it_ends_after_the_last_disconnect(harness: AgentHarness, user: OpenSsh) -> None:
    inside = await entered(harness, user)
    assert (await inside.run("sleep 1000 >/dev/null 2>&1 &")).status == 0
    assert (await inside.run("pgrep sleep || ps ax")).status == 0  # within the 5 seconds
    finished = await harness.end(1)
    assert finished.result is Result.PASSED
    assert b"nobody is connected any more" in harness.log()


async def test_a_stop_ends_it_and_says_so_in_terminals(
    harness: AgentHarness, user: OpenSsh
) -> None:
    inside = await entered(harness, user)
    shell = await asyncio.create_subprocess_exec(
        *inside.command("ssh", "-tt", inside.target),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert shell.stdout is not None and shell.stdin is not None
    shell.stdin.write(b"echo rea''dy\n")
    await shell.stdout.readuntil(b"ready")
    await harness.agent.reconcile([session(1, user, stop=True, stop_reason="stopped by ann")])
    said = await shell.stdout.read()
    await shell.wait()
    assert b"*** this session ends: it is stopped ***" in said
    assert (await harness.end(1)).result is Result.STOPPED


async def test_its_time_limit_ends_it_and_it_has_passed(
    harness: AgentHarness, user: OpenSsh
) -> None:
    inside = await entered(harness, user, timeout_seconds=2.0)
    ran = await inside.run("sleep 1000")
    assert ran.status == 255
    finished = await harness.end(1)
    assert (finished.result, finished.reason) == (Result.PASSED, "time limit of 2 s")


async def reading_shell(harness: AgentHarness, user: OpenSsh) -> asyncio.subprocess.Process:
    """Enter a session with a command that waits for a line."""
    inside = await entered(harness, user)
    shell = await asyncio.create_subprocess_exec(
        *inside.command("ssh", inside.target, "read line; echo again $line"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    await eventually(lambda: b"connected" in harness.log())
    return shell


async def test_an_agent_that_restarts_finds_its_sessions(
    harness: AgentHarness, user: OpenSsh
) -> None:
    shell = await reading_shell(harness, user)
    await harness.restart()
    await opened(harness, session(1, user))
    await harness.store.until(lambda: len(harness.store.openings) == 2)
    assert len({one[1:] for one in harness.store.openings}) == 1
    assert (await shell.communicate(b"there\n"))[0] == b"again there\n"


async def test_a_session_that_was_a_ghost_can_be_entered_again_when_it_is_restored(
    harness: AgentHarness, user: OpenSsh
) -> None:
    shell = await reading_shell(harness, user)
    await harness.agent.reconcile([])
    assert [(one.lease_token, one.running) for one in harness.agent.ghosts or ()] == [(1, True)]
    await harness.agent.reconcile([session(1, user, lease_token=9, restores=1, started=True)])
    await harness.store.until(lambda: len(harness.store.openings) == 2)
    before, after = harness.store.openings
    assert (before[1], after[1]) == (1, 9) and before[2:] == after[2:]
    (await harness.agent.enter_session(job(1), 9)).close()
    with pytest.raises(NoSession):
        await harness.agent.enter_session(job(1), 1)
    assert (await shell.communicate(b"there\n"))[0] == b"again there\n"


@pytest.mark.parametrize("driver", DRIVERS)
async def test_it_is_entered_through_the_agent_where_nothing_listens(
    tmp_path: Path, user: OpenSsh, driver: str
) -> None:
    folder = tmp_path / ("long" * 30) / "worker"  # longer than the path of a socket may be
    folder.parent.mkdir()
    walls = isolated(folder, network=False) if driver == "bubblewrap" else None
    harness = AgentHarness(folder, driver=driver, isolation=walls)
    await harness.agent.start()
    try:
        await opened(harness, session(1, user))
        assert harness.store.openings[0][2:4] == (None, None)
        server = await asyncio.start_server(
            lambda reader, writer: _carry(harness, reader, writer), "127.0.0.1", 0
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            inside = user.directly("127.0.0.1", port, harness.store.openings[0][4])
            assert (await inside.run("echo hello")).out == b"hello\n"
    finally:
        await end(harness)


async def _carry(
    harness: AgentHarness, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    plain = await harness.agent.enter_session(job(1), 1)
    back, there = await asyncio.open_connection(sock=plain)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
        target.close()

    await asyncio.gather(copy(reader, there), copy(back, writer))


async def test_what_a_job_puts_in_place_of_the_socket_is_not_followed(
    tmp_path: Path, user: OpenSsh
) -> None:
    harness = AgentHarness(tmp_path / "worker", ssh_address="127.0.0.1")
    await harness.agent.start()
    try:
        inside = await entered(harness, user)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{tmp_path}/other")
        listener.listen()
        place = harness.folder / "w1-1-1/ssh"
        assert (await inside.run(f"ln -sfn {tmp_path}/other {place}")).status == 0
        with pytest.raises(NoSession, match="cannot be entered"):
            await harness.agent.enter_session(job(1), 1)
        listener.close()
    finally:
        await end(harness)


async def test_a_session_that_is_not_open_cannot_be_entered(
    harness: AgentHarness, user: OpenSsh
) -> None:
    await opened(harness, session(1, user))
    for number, token in ((1, 2), (2, 1)):
        with pytest.raises(NoSession, match="not open here"):
            await harness.agent.enter_session(job(number), token)

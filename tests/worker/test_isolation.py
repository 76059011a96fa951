"""What a hostile job can do under bubblewrap: nothing to its worker, its machine, or other jobs."""

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from boxsched.git_access import GitAccess, lent
from boxsched.protocol.assignments import CloneOptions, JobSecret
from boxsched.states import Result
from boxsched.worker.agent import bubblewrap
from boxsched.worker.agent.attempt import LOST
from boxsched.worker.agent.attempt_folder import AttemptFolder
from boxsched.worker.agent.bubblewrap import BadBoxOption, BoxOptions
from boxsched.worker.agent.plan import Worksite, attempt_name, plan
from boxsched.worker.agent.preparing import make_attempt
from boxsched.worker.supervisor import containment, isolation, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.isolation import Isolation, Monitor
from boxsched.worker.supervisor.launch import launch
from boxsched.worker.supervisor.supervisor import supervise
from tests.worker.conftest import end, needs_bubblewrap
from tests.worker.harness import AgentHarness, alive, assigned, eventually, isolated
from tests.worker.test_git import git, repository

__all__ = ["repository"]
pytestmark = needs_bubblewrap

NOBODY = 65_534
WAIT = "until [ -e {} ]; do sleep 0.02; done"
CANARY = "canary-of-the-worker"


@pytest.fixture
def tmp_path(reachable_folder: Path) -> Path:
    return reachable_folder


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[AgentHarness]:
    harness = AgentHarness(tmp_path / "worker", driver="bubblewrap")
    await harness.agent.start()
    yield harness
    await end(harness)


def processes_of(word: str) -> list[int]:
    """The processes with this word as an argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if alive(pid)]


# --- Reading --------------------------------------------------------------------------------


async def test_it_reads_no_token_no_data_folder_and_no_other_workspace(
    tmp_path: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    token, readable = tmp_path / "shared/token", tmp_path / "shared/file"
    token.parent.mkdir(mode=0o755)
    for path in (token, readable):
        path.write_text(CANARY if path is token else "may be read\n")
        path.chmod(0o644)
    gate, folder = tmp_path / "gate", tmp_path / "worker-0"
    folder.mkdir(mode=0o700)  # as commands do first
    walls = bubblewrap.isolation(BoxOptions(readable=(tmp_path,), hidden=(folder, token)))
    harness = make_harness(driver="bubblewrap", isolation=walls)
    assert harness.folder == folder
    await harness.agent.start()
    (folder / "admin-token").write_text(CANARY)
    other = assigned(1, f"echo {CANARY} | tee file ~/file; echo ready", WAIT.format(gate))
    await harness.agent.reconcile([other])
    await harness.said(1, b"ready")
    look = f"""
set +e
cat {readable}
cat {token} {folder}/admin-token {folder}/*/box/*/file /etc/shadow /proc/1/root{folder}/admin-token
ls {folder} /root /home /var/lib /run /srv /mnt /media
for fd in /proc/1/fd/* /proc/self/fd/*; do ls "$fd/" ; cat "$fd/{folder}/admin-token"; done
grep -r {CANARY[:-1]}[r] /box /tmp /proc/*/environ
cat ../../record ../../given ../record
find / -path /proc -prune -o -path /usr -prune -o -name admin-token -print
true
"""
    finished = await harness.run_also(2, look)
    said = harness.log(2).decode()
    assert finished.result is Result.PASSED
    assert "may be read" in said
    shown = [line for line in said.splitlines() if CANARY in line or "root:" in line]
    assert shown == [] and "admin-token\n" not in said.replace("No such file", "")
    gate.touch()
    assert (await harness.end(1)).result is Result.PASSED


async def test_it_sees_no_process_but_its_own(harness: AgentHarness) -> None:
    await harness.run(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | cut -c1-40; echo; done",
        "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status",
    )
    said = harness.log().decode()
    assert "python" not in said and str(harness.folder) not in said
    caps = [line.split() for line in said.splitlines() if line.startswith(("Cap", "NoNew"))]
    assert ["CapEff:", "0" * 16] in caps and ["NoNewPrivs:", "1"] in caps


async def test_without_a_network_there_is_only_the_loopback(
    tmp_path: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    walls = isolated(tmp_path / "worker-0", network=False)
    harness = make_harness(driver="bubblewrap", isolation=walls)
    await harness.agent.start()
    await harness.run("tail -n +3 /proc/net/dev | cut -d: -f1")
    assert harness.log().split() == [b"lo"]


# --- Killing and outliving ------------------------------------------------------------------


async def test_a_job_that_kills_everything_kills_itself_alone(
    harness: AgentHarness, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await harness.agent.reconcile([assigned(1, "echo ready", WAIT.format(gate), "exit 4")])
    await harness.said(1, b"ready")
    killed = await harness.run_also(2, "sleep 300 & sleep 300 & kill -9 -1; kill -9 1; kill -9 $$")
    assert (killed.result, killed.exit_status) == (Result.FAILED, 137)
    gate.touch()
    assert (await harness.end(1)).exit_status == 4
    assert (await harness.run_also(3, "true")).result is Result.PASSED


async def test_nothing_outlives_its_job(harness: AgentHarness, containment_kind: str) -> None:
    word = f"98765.{os.getpid()}"
    away = f"(setsid setsid sh -c 'sleep {word} & exec sleep {word}' </dev/null >/dev/null 2>&1 &)"
    start = f"{away}; until [ $(pgrep -fc '^sleep {word}') = 2 ]; do sleep 0.02; done"
    assert (await harness.run(start)).result is Result.PASSED
    assert processes_of(word) == []


async def test_a_killed_supervisor_takes_its_job_with_it(harness: AgentHarness) -> None:
    word = f"87654.{os.getpid()}"
    await harness.agent.reconcile([assigned(1, f"echo ready; setsid sleep {word} & sleep {word}")])
    await eventually(lambda: len(processes_of(word)) == 2)
    (supervisor,) = containment.supervisors("w1-1-1", str(harness.folder))
    os.kill(supervisor, signal.SIGKILL)
    finished = await harness.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, LOST)
    assert processes_of(word) == []


async def test_what_is_left_of_a_job_without_spawner_and_supervisor_is_found(
    harness: AgentHarness,
) -> None:
    word = f"76543.{os.getpid()}"
    await harness.agent.reconcile([assigned(1, f"env -i sleep {word}")])
    await eventually(lambda: len(processes_of(word)) == 1)
    marked = containment.marked_processes(
        {"BOXSCHED_JOB": "w1-1", "BOXSCHED_ATTEMPT": "1"},
        {"BOXSCHED_BOX": f"{harness.folder}/w1-1-1"},
        "/nowhere",
    )
    assert len(marked) == 2, "bubblewrap, outside and inside: the job ends with the latter"


async def test_no_variable_of_a_job_reaches_bubblewrap_itself(
    harness: AgentHarness, tmp_path: Path
) -> None:
    """LD_PRELOAD would run the job's code outside; and a word may look like an option."""
    environment = {"LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": "/tmp/linker", "A": "--bind"}
    outside = set(Path("/tmp").glob("linker*"))
    shown = r"tr '\0' '\n' < /proc/1/environ; tr '\0' ' ' < /proc/1/cmdline; echo; echo $A; ls /tmp"
    secrets = (JobSecret("PASSWORD", "canary"),)
    await harness.run(shown, environment=environment, secrets=secrets)
    said = harness.log().decode()
    assert "LD_DEBUG" not in said and "PASSWORD" not in said and "*" not in said
    assert "bwrap --args" in said and "\n--bind\n" in said and "linker." in said
    assert set(Path("/tmp").glob("linker*")) == outside


async def test_a_secret_cannot_add_options_to_bubblewrap(harness: AgentHarness) -> None:
    secrets = (JobSecret("PASSWORD", "x\0--bind\0/\0/host"),)
    finished = await harness.run("ls /host", secrets=secrets)
    assert finished.reason == "cannot start the script: Invalid argument"


def test_the_credentials_of_git_reach_git_inside(tmp_path: Path) -> None:
    walls = bubblewrap.isolation(BoxOptions())
    at_box, box = _box(tmp_path, walls)
    with lent(GitAccess("canary"), walls.give) as (descriptor, variables):
        assert descriptor is not None and "canary" not in str(variables)
        monitor = Monitor()
        file = isolation.options(walls, str(box), monitor.status, "secrets", variables)
        show = f"cat /proc/self/fd/{descriptor}; (exec cat /proc/$$/fd/{descriptor})"
        with (tmp_path / "said").open("wb") as said:
            child, _ = launch(
                isolation.command(walls, file, ["/bin/sh", "-c", show]), {}, workspace=at_box,
                output=said.fileno(), errors=said.fileno(), cgroup=None,
                inherited=[monitor.status, file, descriptor], walls=walls, box=str(box),
            )  # fmt: skip
        assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "said").read_text() == "canarycanary"
    monitor.close()


def _box(folder: Path, walls: Isolation) -> tuple[int, Path]:
    at_folder = safe_files.open_folder(str(folder))
    safe_files.write_file(at_folder, files.SCRIPT, b"")
    for name in (files.BOX, files.WORKSPACE, files.HOME, files.TMP):
        (folder / name).mkdir(0o700)
    at_box = safe_files.open_folder(files.BOX, at_folder)
    isolation.furnish(walls, at_folder, at_box)
    return at_box, folder / files.BOX


# --- Files ----------------------------------------------------------------------------------


async def test_it_writes_only_to_its_box(harness: AgentHarness, tmp_path: Path) -> None:
    for name in ("record", "result", "stop"):
        (tmp_path / name).touch(0o666)
    attack = """
set +e
for d in / /etc /usr /usr/bin /opt /box /run /var /proc /sys /box/secrets; do
    touch $d/planted && echo "wrote $d"
done
printf x > ../../result; printf x > /box/script && echo wrote script
mv /box/home /box/other; rm -rf /box/script; ln -s / /box/link; mount -o remount,rw / ; umount /tmp
true
"""
    finished = await harness.run(attack)
    assert finished.result is Result.PASSED
    assert b"wrote" not in harness.log()


async def test_links_in_its_box_are_not_followed(harness: AgentHarness, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    plant = f"""
set +e
for d in . ~ /tmp; do
    ln -s {precious} $d/link; ln -s {precious}/file $d/secrets; ln -s / $d/root
    mkdir -p $d/a/b; chmod 0 $d/a; mkfifo $d/fifo
done
"""
    assert (await harness.run(plant)).result is Result.PASSED
    await harness.agent.reconcile([])
    await eventually(lambda: not list(harness.folder.glob("w*")))
    await eventually(lambda: not list(harness.folder.glob("trash/*")))
    assert (precious / "file").read_text() == "kept"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of a few MiB; skipped where no file system may be mounted."""
    folder = tmp_path / "worker-0"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4M", "boxsched-test", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_job_that_fills_the_disk_fails_alone(
    small: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    harness = make_harness(driver="bubblewrap")
    assert harness.folder == small
    await harness.agent.start()
    finished = await harness.run(
        "for d in . ~ /tmp; do cat /dev/zero > $d/file; done 2>/dev/null || exit 9"
    )
    assert (finished.result, finished.exit_status, finished.reason) == (
        Result.FAILED,
        9,
        "exit status 9",
    )
    await harness.agent.reconcile([])
    await eventually(lambda: not list(small.glob("w*")))


# --- git ------------------------------------------------------------------------------------


@pytest.fixture
async def open_harness(tmp_path: Path) -> AsyncIterator[AgentHarness]:
    """As the in-process Boxes of a service: git sees repositories of the machine."""
    folder = tmp_path / "worker"
    walls = isolated(folder, readable=(), repositories=True)
    harness = AgentHarness(folder, driver="bubblewrap", isolation=walls)
    await harness.agent.start()
    yield harness
    await end(harness)


async def test_git_clones_what_jobs_can_read(harness: AgentHarness, repository: Path) -> None:
    """It may belong to another user, as here where the worker is root."""
    finished = await harness.run("cat file; git log -1 --format=%s", repository=str(repository))
    assert finished.result is Result.PASSED, harness.log()
    assert harness.log() == b"second\nsecond\n"
    assert finished.commit is not None and len(finished.commit) == 40


async def test_git_alone_sees_a_repository_of_the_machine(
    open_harness: AgentHarness, repository: Path
) -> None:
    """Also behind a folder that others may not enter, and in the job's own clone of it."""
    (repository / "not-committed").write_text(CANARY)
    repository.parent.chmod(0o700)
    try:
        for number, options in enumerate(
            ({}, {"branch": None}, {"branch": None, "tag": "v1"}, {"branch": "feature/x"}), 1
        ):
            wanted = assigned(
                number, "set +e; git log -1 --format=%s; git remote get-url origin",
                f"ls /box/repository {repository}", repository=str(repository), **options,
            )  # fmt: skip
            await open_harness.agent.reconcile([wanted])
            finished = await open_harness.end(number)
            said = open_harness.log(number).decode()
            subject = {2: "second", 3: "first", 4: "third"}.get(number, "second")
            assert said.startswith(f"{subject}\nfile://{repository}\n"), (said, finished)
            assert "not-committed" not in said and "HEAD" not in said
    finally:
        repository.parent.chmod(0o755)


@pytest.mark.parametrize("clone", [None, CloneOptions(depth=1), CloneOptions(submodules=True)])
async def test_a_local_repository_is_cloned_in_every_way(
    open_harness: AgentHarness, repository: Path, clone: CloneOptions | None
) -> None:
    bare = repository.with_name("bare.git")
    git(repository, "clone", "-q", "--bare", ".", str(bare))
    head = git(repository, "rev-parse", "main")
    for number, (name, options) in enumerate(
        [
            (str(bare), {}),
            (f"file://{bare}", {"branch": None, "commit": head}),
            (str(bare.with_suffix("")), {"branch": None, "commit": head[:9]}),
            (f"{repository}/", {"branch": "feature/x"}),
        ],
        1,
    ):
        wanted = assigned(number, "cat file", repository=name, clone=clone, **options)
        await open_harness.agent.reconcile([wanted])
        finished = await open_harness.end(number)
        said = open_harness.log(number)
        assert finished.result is Result.PASSED, (finished.reason, said)
        assert said == (b"third\n" if number == 4 else b"second\n")


async def test_nothing_of_the_project_runs_while_git_sees_a_repository(
    open_harness: AgentHarness, repository: Path
) -> None:
    planted = "sh -c 'ls /box/repository >/tmp/planted'"
    environment = {
        "GIT_TRACE": "/tmp/trace",
        "GIT_EXEC_PATH": "/tmp",
        "GIT_SSH_COMMAND": planted,
        "GIT_TEMPLATE_DIR": "/etc",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": planted,
        "GIT_CONFIG_KEY_1": "remote.origin.uploadpack",
        "GIT_CONFIG_VALUE_1": planted,
        "GIT_UPLOAD_PACK": planted,
        "BASH_ENV": "/box/script",
        "ENV": "/box/script",
        "LD_PRELOAD": "/box/workspace/no.so",
        "PATH": "/box/workspace:/usr/bin:/bin",
    }
    finished = await open_harness.run(
        "unset LD_PRELOAD BASH_ENV GIT_TRACE GIT_EXEC_PATH; cat /tmp/*; echo that was all",
        repository=str(repository),
        environment=environment,
        commit=git(repository, "rev-parse", "main"),
    )
    said = open_harness.log().decode()
    assert "that was all" in said, finished
    for word in ("objects", "upload-pack", "run_command: git clone", "git init"):
        assert word not in said


@pytest.mark.parametrize("where", ["data", "around"])
async def test_a_repository_with_the_workers_own_files_is_not_shown(
    open_harness: AgentHarness, tmp_path: Path, repository: Path, where: str
) -> None:
    hidden = open_harness.folder / "repository" if where == "data" else tmp_path
    if where == "data":
        shutil.copytree(repository, hidden)
    else:
        shutil.copytree(repository / ".git", tmp_path, dirs_exist_ok=True)
    finished = await open_harness.run("true", repository=str(hidden))
    said = f"there is no git repository at {hidden} on this worker that jobs can read"
    assert (finished.reason, finished.not_begun) == (said, False)
    assert open_harness.agent.problem is None


async def test_only_git_repositories_are_shown(open_harness: AgentHarness, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in ("/etc", "/root", "/", "/etc/passwd", "/dev/stdin", str(tmp_path / "folder")):
        await open_harness.agent.reconcile([])
        finished = await open_harness.run_also(len(path), "true", repository=path)
        assert (finished.reason or "").startswith(f"there is no git repository at {path} on this")


async def test_a_repository_that_jobs_do_not_see_is_not_cloned(
    repository: Path, tmp_path: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    harness = make_harness(
        driver="bubblewrap", isolation=isolated(tmp_path / "worker-0", readable=())
    )
    await harness.agent.start()
    finished = await harness.run("true", repository=str(repository))
    assert finished.reason == (
        f"its repository {repository} is on the worker's disk, where isolated jobs do not see it: "
        f"start the worker with --box-readable {repository}"
    )
    assert harness.agent.problem is None


# --- Where it does not work -----------------------------------------------------------------


async def test_a_box_that_cannot_be_made_is_the_workers_problem(
    tmp_path: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    walls = isolated(tmp_path / "worker-0")
    walls = walls._replace(arguments=[*walls.arguments, "--bind", "/nowhere", "/nowhere"])
    harness = make_harness(driver="bubblewrap", isolation=walls)
    await harness.agent.start()
    finished = await harness.run("echo ran")
    assert finished.not_begun and finished.result is Result.FAILED
    missing = "Can't find source path /nowhere: No such file or directory"
    assert finished.reason == f"cannot isolate jobs: bwrap: {missing}"
    await harness.store.until(lambda: harness.store.problems)
    assert harness.agent.problem == finished.reason
    assert bubblewrap.probe(walls) == finished.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_worker_that_is_an_ordinary_user_isolates_jobs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor alone, in a child that has given up root."""
    folder = tmp_path / "worker"
    folder.mkdir()
    (folder / "secret").write_text(CANARY)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    walls = bubblewrap.isolation(BoxOptions(hidden=(folder,)))
    assert walls.uid is None
    site_at = safe_files.open_folder(str(folder))
    site = Worksite(str(folder), site_at, "", "boot", 1 << 20, None, 1.0, walls)
    wanted = assigned(1, f"set +e; id -u; cat {folder}/secret; touch /box/x; exit 6")
    record, script, secret = plan(wanted, site)
    name = attempt_name(wanted)
    make_attempt(AttemptFolder(site_at, f"{folder}/{name}"), record, script, secret).close()
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(folder)], check=True)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            supervise(site_at, str(folder), name)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    at = safe_files.open_folder(f"{folder}/{name}")
    said = (safe_files.read_file(at, files.LOG) or b"").decode()
    assert b'"exit status 6"' in (safe_files.read_file(at, files.RESULT) or b"")
    assert said.startswith(f"{NOBODY}\n") and CANARY not in said and "Read-only" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"user": "no-such-user"}, "no user no-such-user"),
        ({"user": "root"}, "name an ordinary user"),
        ({"readable": (Path("/"),)}, "not /"),
        ({"readable": (Path("relative"),)}, "must be an absolute path"),
        ({"readable": (Path("/nowhere"),)}, "/nowhere does not exist"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, object], said: str) -> None:
    if "user" in options and os.geteuid() != 0:
        said = "only a worker that runs as root"
    with pytest.raises(BadBoxOption, match=said):
        bubblewrap.isolation(BoxOptions(**options))  # type: ignore[arg-type]

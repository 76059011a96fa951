"""``boxsched workers ghosts``, ``restore-ghosts`` and ``kill-ghosts`` with real processes.

The worker is frozen until its jobs are unknown, and a person decides about them.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import CommandRunner, end, environment, start
from tests.contract.postgres_server import database, execute, provided  # noqa: F401

SECONDS = 90.0  # for anything that is waited for
SERVERS = ("a", "b", "c", "d")


def until(look, what):
    ends = time.monotonic() + SECONDS
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < ends, what
        time.sleep(0.05)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request, tmp_path_factory):
    """A service without Boxes of its own, and the options of its database."""
    data = tmp_path_factory.mktemp("data")
    options = ("serve", "--port", "0", "--boxes", "0", "--lost-after", "600")
    if request.param == "sqlite":
        process = start(*options, data=data)
        yield CommandRunner(str(data)), f"sqlite:///{data}/boxsched.sqlite"
        assert end(process) == 0
        return
    with provided() as admin, database(admin) as url:
        process = start(*options, "--database", url, data=data)
        yield CommandRunner(str(data)), url
        assert end(process) == 0


@pytest.fixture
def builder(service, tmp_path):
    shell, _ = service
    made = shell("token", "create", "--role", "worker")
    url = made.stderr.split("--url ")[1].split()[0]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "boxsched", "worker", "--url", url, "--boxes", "4"),
            *("--name", "builder", "--data", str(tmp_path / "worker"), "--box-driver", "process"),
        ],
        env={**environment(tmp_path), "BOXSCHED_TOKEN": made.stdout.strip()},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline().startswith("connected to ")
    yield process
    process.send_signal(signal.SIGCONT)
    end(process)


def jobs(shell, ids):
    return {server: shell.json("show", id_)["jobs"][0] for server, id_ in ids.items()}


def test_ghosts_are_restored_and_killed_one_and_all(service, builder, tmp_path):
    shell, url = service
    gate, pids = tmp_path / "gate", tmp_path / "pids"
    pids.mkdir()
    command = f"echo $$ > {pids}/$BOXSCHED_SERVER; until [ -e {gate} ]; do sleep 0.05; done"
    deploy = {"jobs": [{"name": "roll out", "commands": [command]}]}
    file = tmp_path / "project.json"
    file.write_text(json.dumps({"name": "web", "servers": dict.fromkeys(SERVERS, deploy)}))
    shell("project", "apply", str(file))
    ids = {server: shell.json("deploy", "web", server)["id"] for server in SERVERS}
    until(lambda: all((pids / one).exists() for one in SERVERS), "all run")
    builder.send_signal(signal.SIGSTOP)
    unknown = lambda: {one["state"] for one in jobs(shell, ids).values()} == {"unknown"}  # noqa: E731
    until(unknown, "the worker is silent")
    for server, word in zip(SERVERS, ("again", "again", "failed", "failed"), strict=True):
        shell("resolve", jobs(shell, ids)[server]["id"], word)
    builder.send_signal(signal.SIGCONT)

    def listed(*options):
        return {one["job"]: one for one in shell.json("workers", "ghosts", *options)["ghosts"]}

    job = {server: one["id"] for server, one in jobs(shell, ids).items()}
    until(lambda: listed().keys() == set(job.values()), "all are ghosts")
    assert listed("--worker", "builder").keys() == set(job.values())
    assert listed("--worker", "other") == {}
    shown = shell("workers", "ghosts").stdout
    assert "can be restored" in shown and "its job has finished: failed" in shown
    ghost = {server: listed()[job[server]]["id"] for server in SERVERS}

    # Nothing happens without a choice, for another worker's, or to what cannot be restored.
    for what in ("restore-ghosts", "kill-ghosts"):
        yes = ("--yes",) if what == "kill-ghosts" else ()
        assert "name ghosts" in shell("workers", what, *yes, status=2).stderr
        assert "name ghosts" in shell("workers", what, "--all", ghost["a"], *yes, status=2).stderr
        none = shell("workers", what, "--all", "--worker", "other", *yes)
        assert none.stdout == "there are none\n"
        refused = shell("workers", what, ghost["a"], "--worker", "other", *yes, status=2)
        assert "there is no ghost" in refused.stderr
    refused = shell("workers", "restore-ghosts", ghost["c"], status=1)
    assert "its job has finished: failed" in refused.stderr
    assert listed().keys() == set(job.values())

    one = shell("workers", "restore-ghosts", ghost["a"])
    assert one.stdout == f"{ghost['a']} ({job['a']} on builder): restored\n"
    rest = shell("workers", "restore-ghosts", "--all", "--worker", "builder")
    assert rest.stdout == f"{ghost['b']} ({job['b']} on builder): restored\n"
    one = shell("workers", "kill-ghosts", ghost["c"], "--yes")
    assert one.stdout == f"{ghost['c']} ({job['c']} on builder): is being ended\n"
    until(lambda: listed().keys() <= {job["c"], job["d"]}, "the restored ones are none any more")
    rest = shell("workers", "kill-ghosts", "--all", "--worker", "builder", "--yes")
    assert f"{ghost['d']} ({job['d']} on builder): is being ended\n" in rest.stdout
    assert job["a"] not in rest.stdout and job["b"] not in rest.stdout
    until(lambda: not listed(), "none is left")
    for server in ("c", "d"):
        pid = (pids / server).read_text().strip()
        assert not Path(f"/proc/{pid}").exists()
    assert {server: one["state"] for server, one in jobs(shell, ids).items()} == {
        "a": "running", "b": "running", "c": "finished", "d": "finished",
    }  # fmt: skip
    gate.touch()
    for server in ("a", "b"):
        done = until(lambda: (it := jobs(shell, ids)[server])["result"] and it, "it ends")  # noqa: B023
        assert (done["result"], done["attempt"]) == ("passed", 1)
    assert shell("check", "--database", url)

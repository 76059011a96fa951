"""``boxsched workers`` against a real service and a real worker, each a process."""

import subprocess
import sys

import pytest

from tests.cli.conftest import CommandRunner, end, environment, start


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A service with Boxes, which also accepts workers."""
    data = tmp_path_factory.mktemp("mixed")
    process = start("serve", "--port", "0", "--boxes", "1", "--allow-mixed", data=data)
    yield CommandRunner(str(data))
    assert end(process) == 0


@pytest.fixture
def builder(shell, tmp_path):
    """A worker "builder-2" that is connected."""
    made = shell.json("token", "create", "--role", "worker")
    url = shell("token", "create", "--role", "worker").stderr.split("--url ")[1].split()[0]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "boxsched", "worker", "--url", url, "--boxes", "1"),
            *("--name", "builder-2", "--data", str(tmp_path / "worker"), "--box-type", "special"),
        ],
        env={**environment(tmp_path), "BOXSCHED_TOKEN": made["token"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline().startswith("connected to ")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    if any(one["name"] == "builder-2" for one in shell.json("workers", "list")["workers"]):
        shell("workers", "remove", "builder-2", "--yes")


def test_a_worker_is_drained_and_removed(shell, builder):
    done = shell("workers", "drain", "builder-2", "--note", "new disk", "--wait")
    assert done.stdout.splitlines() == [
        "builder-2: drained by admin (new disk)",
        "builder-2: ended",
    ]
    assert builder.wait(30) == 0
    (row,) = [line for line in shell("workers", "list").stdout.splitlines() if "builder-2" in line]
    assert row.endswith("drained by admin (new disk)") and "disconnected" in row
    assert shell("workers", "remove", "builder-2").stdout == "builder-2: removed\n"
    assert (
        "there is no worker 'builder-2'" in shell("workers", "drain", "builder-2", status=2).stderr
    )


def test_a_drain_is_taken_back(shell):
    """Of the service's own worker, which does not end."""
    drained = shell.json("workers", "drain", "in-process", "--stop-after", "2h", "--wait")
    assert drained["drain"]["done"] and drained["state"] == "draining"
    assert drained["drain"]["stop_at"] is not None
    assert shell("workers", "resume", "in-process").stdout.startswith("in-process: gets jobs")
    refused = shell("workers", "resume", "in-process", status=1)
    assert "the worker in-process is not being drained" in refused.stderr
    refused = shell("workers", "remove", "in-process", "--yes", status=1)
    assert "belongs to a node" in refused.stderr


@pytest.mark.parametrize("text", ["30", "m", "-1m", "1.5h", "10000000s", "2w"])
def test_an_invalid_time_is_refused(shell, text):
    refused = shell("workers", "drain", "in-process", "--stop-after", text, status=2)
    assert f"--stop-after {text}: must be a time such as 45s, 30m, 2h or 3d" in refused.stderr

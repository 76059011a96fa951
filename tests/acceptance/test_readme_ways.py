"""The guides as a person follows them, on a real service: Python, backup and restore."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from boxsched.client import BlockingClient
from tests.conftest import PROJECT
from tests.faults.service import Service

GUIDE = "".join(
    (PROJECT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("backup", "python")
)
SHOP = {
    "jobs": [{"name": "unit", "commands": ["echo lease $BOXSCHED_LEASE_TOKEN"]}],
    "servers": {"production": {"jobs": [{"name": "ship", "commands": ["true"]}]}},
}


def block(language: str, holds: str) -> str:
    """The one code block of the guides in that language that holds this text."""
    (found,) = (
        text
        for text in re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
        if holds in text
    )
    return found


def in_shell(script: str, home: Path) -> str:
    boxsched = f'boxsched() {{ {shlex.quote(sys.executable)} -m boxsched "$@"; }}\n'
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BOXSCHED_")}
    kept |= {"HOME": str(home), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", boxsched + script],
        cwd=home, env=kept, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout


def test_the_python_example_builds_and_deploys(tmp_path: Path) -> None:
    service = Service(tmp_path, "--boxes", "1")
    service.start()
    try:
        with BlockingClient(service.url, service.token) as client:
            client.put_project("web-shop", SHOP)
            example = block("python", "client.follow_log")
            example = example.replace("http://127.0.0.1:8080", service.url)
            example = example.replace("bxs_...", service.token)
            done = subprocess.run(
                [sys.executable, "-c", example],
                capture_output=True, text=True, timeout=120,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert re.search(r"^lease [0-9]+$", done.stdout, re.MULTILINE), done.stdout
            deploy, build = client.workloads(project="web-shop").workloads
            assert (build.number, deploy.build) == (1, build.id)
            assert client.wait(deploy.id).passed
    finally:
        service.stop()


def lease(client: BlockingClient) -> tuple[int, int]:
    """Run a build that passes; return (number, lease token)."""
    build = client.build("web-shop", branch="main")
    assert client.wait(build.id).passed
    text = client.log(build.jobs[0].id).decode()
    return build.number, int(re.findall(r"^lease ([0-9]+)$", text, re.MULTILINE)[-1])


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the program sqlite3")
def test_a_backup_of_a_running_service_is_restored(tmp_path: Path) -> None:
    data = tmp_path / ".local/share/boxsched"
    service = Service(data, "--boxes", "1")
    service.start()
    try:
        with BlockingClient(service.url, service.token) as client:
            client.put_project("web-shop", SHOP)
            assert lease(client)[0] == 1
            assert "All invariants hold." in in_shell(block("sh", ".backup"), tmp_path)
            before = [lease(client) for _ in range(2)]
        service.stop()
        in_shell(block("sh", "db restored"), tmp_path)
        service.start()
        with BlockingClient(service.url, service.token) as client:
            number, token = lease(client)
    finally:
        service.stop()
    assert [one for one, _ in before] == [2, 3]
    assert number == 2, "the numbers go on from the backup"
    assert token > max(known for _, known in before), "a lease token never falls"

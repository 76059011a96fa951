"""A followed log is complete, however its answers end."""

import contextlib
import json
import re
import socket
import threading
from pathlib import Path

import pytest

from boxsched.folders import DataFolder
from tests.cli.conftest import CommandRunner, end, start
from tests.git_server import repository

LINES = [f"line {number}" for number in range(1, 9)]


class OldProxy:
    """A proxy with HTTP/1.0, where the end of a connection is the end of an answer.

    Of each answer with a log it passes on ``bytes_each`` bytes after the headers, and then hangs
    up.
    """

    def __init__(self, service, bytes_each):
        self._service = service
        self._bytes_each = bytes_each
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.logs = 0

    def run(self):
        with contextlib.suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65_536)
            with socket.create_connection(self._service) as service:
                service.sendall(head.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
                self._pass_on(service, client, is_log=b"/log?" in head.splitlines()[0])

    def _pass_on(self, service, client, is_log):
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += service.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        left = self._bytes_each if is_log else 1 << 30
        self.logs += is_log
        # Such a proxy may also leave out the length of the answer.
        client.sendall(re.sub(rb"\r\nContent-Length: [0-9]+", b"", head) + b"\r\n\r\n")
        body = body or service.recv(65_536)
        while body:
            client.sendall(body[:left])
            left -= len(body)
            if left <= 0:  # hang up now, not when the service sends more
                return
            body = service.recv(65_536)


@pytest.fixture
def proxy(shell):
    url = DataFolder(Path(shell.data)).listening().url
    made = OldProxy(("127.0.0.1", int(url.rpartition(":")[2])), bytes_each=11)
    threading.Thread(target=made.run, daemon=True).start()
    yield made
    made.close()


def applied(shell, name, *commands):
    file = Path(shell.data) / f"{name}.json"
    file.write_text(json.dumps({"name": name, "jobs": [{"name": "unit", "commands": commands}]}))
    shell("project", "apply", str(file))


def gated(gate):
    """Print half of the lines, wait for the gate, and print the rest."""
    return (
        *(f"echo {line}" for line in LINES[:4]),
        f"until [ -e {gate} ]; do sleep 0.05; done",
        *(f"echo {line}" for line in LINES[4:]),
    )


def lines_of(output):
    return [line for line in output.splitlines() if line.startswith("line ")]


@pytest.mark.parametrize("follow", [("--follow",), ()])
def test_all_lines_arrive_through_a_proxy_that_cuts_answers(shell, proxy, tmp_path, follow):
    gate = tmp_path / "gate"
    applied(shell, "cut", *gated(gate))
    build = shell.json("build", "cut")
    if not follow:
        gate.touch()
        shell("logs", "--follow", build["id"])
    token = str(DataFolder(Path(shell.data)).token_file)
    at = ("--url", proxy.url, "--token-file", token)
    process = shell.begin("logs", f"{build['id']}-1", *follow, *at)
    first = ""
    while follow and LINES[2] not in first:
        first += process.stdout.readline()
    gate.touch()
    rest, said = process.stdout.read(), process.stderr.read()
    assert (lines_of(first + rest), process.wait(60), said) == (LINES, 0, "")
    assert proxy.logs > 4


JOB_FILE = """
jobs:
  - name: unit
    commands: [echo line 1]
  - name: lint
    commands: [echo line 2]
"""


@pytest.mark.parametrize("command", ["build", "logs"])
def test_jobs_are_followed_once_they_are_known(shell, tmp_path, command):
    """The jobs are read from the repository after the submission."""
    settings = {"name": f"read-{command}", "jobs": [], "jobs_from": ".boxsched.yml"}
    settings["repository"] = str(repository(tmp_path / "repository", **{".boxsched.yml": JOB_FILE}))
    file = tmp_path / "project.json"
    file.write_text(json.dumps(settings))
    shell("project", "apply", str(file))
    if command == "build":
        printed = shell("build", settings["name"], "--follow").stdout.splitlines()
        assert " submitted: " in printed[0] and " passed: " in printed[-1]
    else:
        made = shell.json("build", settings["name"])
        assert made["jobs"] == [], "they are not known yet"
        printed = shell("logs", made["id"], "--follow").stdout.splitlines()
    lines = {line for line in printed if "| line " in line}
    assert lines == {"unit | line 1", "lint | line 2"}


def test_another_attempt_of_a_job_is_printed_and_explained(shell, tmp_path):
    mark = tmp_path / "mark"
    commands = [f"test -e {mark} || {{ touch {mark}; echo first; exit 75; }}", "echo second"]
    job = {"name": "unit", "commands": commands, "retry": {"exit": {"75": 1}}}
    job["show_commands"] = False
    file = tmp_path / "again.json"
    file.write_text(json.dumps({"name": "again", "jobs": [job]}))
    shell("project", "apply", str(file))
    id_ = shell.json("build", "again", "--wait")["id"]
    latest = shell("logs", id_)
    assert latest.stdout == "second\n"
    other = f"boxsched logs {id_}-1 --attempt"
    said = f"boxsched: unit ({id_}-1): attempt 2 of 2; for the other: {other} 1\n"
    assert latest.stderr == said
    first = shell("logs", f"{id_}-1", "--attempt", "1")
    assert first.stdout == "first\n"
    said = f"boxsched: unit ({id_}-1): attempt 1 of 2; for the other: {other} 2\n"
    assert first.stderr == said
    (as_json,) = shell.json("logs", f"{id_}-1", "--attempt", "1")["jobs"]
    assert (as_json["attempt"], as_json["log"]) == (1, "first\n")
    missing = shell("logs", f"{id_}-1", "--attempt", "3", status=2)
    assert "there is no attempt 3; the latest is 2" in missing.stderr
    refused = shell("logs", id_, "--attempt", "1", status=2)
    assert "--attempt requires a single job" in refused.stderr
    refused = shell("logs", f"{id_}-1", "--attempt", "1", "--follow", status=2)
    assert "--attempt cannot be combined with" in refused.stderr
    assert "retried after: exit status 75" in shell("show", id_).stdout


def test_all_lines_arrive_across_a_restart_of_the_service(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    data, gate = tmp_path / "data", tmp_path / "gate"
    shell = CommandRunner(str(data))
    service = start("serve", "--port", port, "--boxes", "1", "--box-driver", "process", data=data)
    applied(shell, "restart", *gated(gate))
    process = shell.begin("build", "restart", "--follow")
    first = ""
    while LINES[3] not in first:
        first += process.stdout.readline()
    assert end(service) == 0
    service = start("serve", "--port", port, "--boxes", "1", "--box-driver", "process", data=data)
    gate.touch()
    rest = process.stdout.read()
    assert (lines_of(first + rest), process.wait(60)) == (LINES, 0)
    assert " passed: waited" in rest
    assert end(service) == 0

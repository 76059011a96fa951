"""A real service, started like a user does, and commands against it."""

import json
import os
import signal
import subprocess
import sys

import attrs
import pytest
import yaml
from click.testing import CliRunner

from boxsched.cli import main

START_SECONDS = 30
NOWHERE = dict.fromkeys(("BOXSCHED_URL", "BOXSCHED_TOKEN", "BOXSCHED_TOKEN_FILE"))


@attrs.frozen
class CommandResult:
    returncode: int
    stdout: str
    stderr: str


@attrs.frozen
class CommandRunner:
    """Runs commands on one data folder: in this process, or as a separate process."""

    data: str

    def __call__(self, *arguments, status=0, stdin=None, **environment):
        variables = {**NOWHERE, "BOXSCHED_DATA": self.data, **environment}
        ran = CliRunner().invoke(main, arguments, input=stdin, env=variables)
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return _checked(arguments, CommandResult(ran.exit_code, ran.stdout, ran.stderr), status)

    def process(self, *arguments, status=0):
        ran = subprocess.run(
            [sys.executable, "-m", "boxsched", *arguments],
            env=environment(self.data),
            capture_output=True,
            text=True,
            timeout=60,
        )
        return _checked(arguments, CommandResult(ran.returncode, ran.stdout, ran.stderr), status)

    def begin(self, *arguments):
        """Start a command that keeps running, as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "boxsched", *arguments],
            env=environment(self.data),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *arguments, status=0):
        return json.loads(self(*arguments, "--json", status=status).stdout)


def _checked(arguments, done, status):
    assert done.returncode == status, (arguments, done)
    return done


def environment(data):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BOXSCHED_")}
    return {**kept, "BOXSCHED_DATA": str(data)}


def start(*arguments, data, stderr=None):
    """Start a command that keeps running; return it and the line that it prints when it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "boxsched", *arguments],
        env=environment(data),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:"), line
    return process


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(START_SECONDS)
    finally:
        process.kill()
        process.stdout.close()


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    gates = ("--box-driver", "process")  # jobs look into the tests' folders
    process = start("serve", "--port", "0", "--boxes", "4", *gates, data=data)
    yield CommandRunner(str(data))
    assert end(process) == 0


PROJECT = {
    "name": "web",
    "default_branch": "trunk",
    "jobs": [
        {"name": "unit", "commands": ["echo testing $BOXSCHED_BRANCH", "echo done"]},
        {"name": "lint", "commands": ["printf '\\033]0;evil\\007\\033[31mlinted\\033[0m\\n'"]},
    ],
    "servers": {"staging": {"jobs": [{"name": "roll out", "commands": ["echo to staging"]}]}},
}
FAILING = {"name": "broken", "jobs": [{"name": "unit", "commands": ["echo oh no", "exit 3"]}]}
SLOW = {"name": "slow", "jobs": [{"name": "sleep", "commands": ["echo begun", "sleep 60"]}]}


@pytest.fixture(scope="module")
def projects(shell, tmp_path_factory):
    file = tmp_path_factory.mktemp("files") / "projects.yaml"
    file.write_text(yaml.safe_dump([PROJECT, FAILING, SLOW]))
    assert shell("project", "apply", str(file)).stdout == (
        "web: created\nbroken: created\nslow: created\n"
    )

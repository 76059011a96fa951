"""docs/operating.md and the units in examples/cluster/systemd name only what exists."""

import configparser
import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from boxsched.cli import main
from boxsched.node.options import Options
from tests.conftest import EXAMPLES, PROJECT
from tests.faults.service import Service

TEXT = (PROJECT / "docs" / "operating.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^boxsched .+", SHELL.replace("\\\n", " "), re.MULTILINE)
SYSTEMD = EXAMPLES / "cluster" / "systemd"
UNITS = {"boxsched-node": "serve", "boxsched-worker": "worker"}


def command(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command after these prefixes, and its arguments."""
    found: click.Command = main
    while isinstance(found, click.Group):
        if found.invoke_without_command and (not words or words[0].startswith("-")):
            break
        name = words[0]
        inner = found.get_command(click.Context(found), name)
        assert inner is not None, f"no such command: {name}"
        found, words = inner, words[1:]
    return found, words


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_valid(line: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, words = command(shlex.split(line.partition(" >")[0], comments=True)[1:])
    found.make_context("boxsched", words)  # a usage error is raised here


def test_the_metrics_in_the_page_are_all_that_a_node_shows(tmp_path: Path) -> None:
    service = Service(tmp_path, "--boxes", "0")
    service.start()
    try:
        with urllib.request.urlopen(f"{service.url}/metrics", timeout=60) as answer:
            figures = answer.read().decode()
    finally:
        assert service.stop() == 0
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(figures)
    }
    named = set(re.findall(r"`(boxsched_[\w*]+)", TEXT))
    assert [name for name in named if not fnmatch.filter(shown, name)] == []
    assert [name for name in shown if not any(fnmatch.fnmatch(name, n) for n in named)] == []


def test_every_file_that_the_page_names_exists() -> None:
    names = re.findall(r"`((?:systemd/)?[\w-]+\.(?:conf|cfg|env|service))`", TEXT)
    assert names
    cluster = EXAMPLES / "cluster"
    places = (cluster, SYSTEMD)
    assert [n for n in names if not any((place / n).exists() for place in places)] == []
    named = (cluster / "README.md").read_text()
    files = [path for path in cluster.rglob("*.*") if path.name != "README.md"]
    assert [path.name for path in files if path.name not in named] == []


# --- Units --------------------------------------------------------------------------------------


def unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((SYSTEMD / f"{name}.service").read_text())
    return parser


# systemd before 254 says that it does not know this key, and goes on without it
NEWER = "'DelegateSubgroup'"


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_each_unit(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd here")
    text = (SYSTEMD / f"{name}.service").read_text()
    begins = unit(name)["Service"]["ExecStart"].split()[0]
    copy = tmp_path / f"{name}.service"
    copy.write_text(text.replace(begins, sys.executable))
    done = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if NEWER not in line]
    assert (done.returncode, complaints) == (0, [])


@pytest.mark.parametrize(("name", "verb"), UNITS.items())
def test_a_unit_starts_what_its_environment_is_for(name: str, verb: str) -> None:
    service = unit(name)["Service"]
    found, words = command(shlex.split(service["ExecStart"])[1:])
    assert (found.name, words) == (verb, [])
    variables = {str(option.envvar) for option in found.params if getattr(option, "envvar", None)}
    file = SYSTEMD / Path(service["EnvironmentFile"]).name
    named = re.findall(r"^#?(\w+)=", file.read_text(), re.MULTILINE)
    assert named
    assert set(named) <= variables


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_waits_longer_than_its_program_takes_to_end(name: str, tmp_path: Path) -> None:
    grace = Options(data=tmp_path).shutdown_grace
    assert float(unit(name)["Service"]["TimeoutStopSec"]) > 2 * grace


def test_a_workers_jobs_outlive_it() -> None:
    """Only the worker is signalled; jobs have their own control groups; a job that runs out of
    memory ends alone; no option gives each start its own file system."""
    service = unit("boxsched-worker")["Service"]
    assert service["KillMode"] == "process"
    assert service["Delegate"] == "yes"
    assert service["OOMPolicy"] == "continue"
    assert [key for key in service if key.startswith(("Private", "Protect"))] == []

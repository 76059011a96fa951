"""The commands, options and files in the README and in the pages that it leads to exist."""

import ast
import contextlib
import ensurepip
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from boxsched.cli import main
from boxsched.client import BlockingClient, Client
from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PAGES = ("backup", "bench", "private-repositories", "projects", "python", "workers")
GUIDE = README + "".join(
    (PROJECT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in PAGES
)
SHELL = "\n".join(re.findall(r"^ *```sh\n(.*?)^ *```", GUIDE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^boxsched .+", SHELL, re.MULTILINE)


def test_it_is_short_enough_to_be_read_first_and_leads_to_every_page():
    assert len(README.splitlines()) <= 450
    assert [page for page in PAGES if f"(docs/{page}.md)" not in README] == []


def test_there_are_exactly_two_set_up_commands():
    commands = re.findall(r"^ *(python3 -m venv .+)$", README, re.MULTILINE)
    assert len(commands) == 2
    into = "python3 -m venv --without-pip .venv && .venv/bin/python .ci/install.py"
    assert commands[0] == f"{into} . && .venv/bin/boxsched demo"
    assert commands[1] == f"{into} --editable '.[test]' && .venv/bin/python -m pytest"


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_valid(line):
    name, *words = shlex.split(line, comments=True)
    command, context = main, click.Context(main, info_name=name)
    while isinstance(command, click.Group):
        if command.invoke_without_command and (not words or words[0].startswith("-")):
            break
        name = words.pop(0)
        command = command.get_command(context, name)
        assert command is not None, name
    command.make_context(name, words)  # a usage error is raised here


def test_every_option_in_the_table_is_an_option_of_serve():
    rows = re.findall(r"^\| (`--.*?) \| (`BOXSCHED_.*?) \|", README, re.MULTILINE)
    options = re.findall(r"--[a-z-]+", " ".join(row[0] for row in rows))
    variables = re.findall(r"BOXSCHED_[A-Z_]+", " ".join(row[1] for row in rows))
    serve = main.get_command(click.Context(main), "serve")
    envvars = {o.opts[0]: o.envvar for o in serve.params if not getattr(o, "hidden", False)}
    assert dict(zip(options, variables, strict=True)) == envvars


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the program sqlite3")
def test_the_backup_and_restore_commands_work(tmp_path):
    """As written, each block in its own folder."""
    data = tmp_path / ".local/share/boxsched"
    database = data / "boxsched.sqlite"
    data.mkdir(parents=True)
    shell(f"boxsched db upgrade --database sqlite:///{database}", tmp_path)
    backup, restore = (
        block for block in re.findall(r"^```sh\n(.*?)^```", GUIDE, re.M | re.S) if "$copy" in block
    )
    assert "All invariants hold." in shell(backup, tmp_path)
    with contextlib.closing(sqlite3.connect(database)) as changed:
        changed.execute("CREATE TABLE made_after_the_backup (a)")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "New workload ids are larger by a million" in shell(restore, elsewhere, home=tmp_path)
    with contextlib.closing(sqlite3.connect(database)) as restored:
        tables = {name for (name,) in restored.execute("SELECT name FROM sqlite_schema")}
    assert "made_after_the_backup" not in tables and tables


def shell(script, folder, home=None):
    """Return the script's output, where ``boxsched`` is this tree's."""
    boxsched = f'boxsched() {{ {shlex.quote(sys.executable)} -m boxsched "$@"; }}\n'
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BOXSCHED_")}
    kept |= {"HOME": str(home or folder), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", boxsched + script],
        cwd=folder, env=kept, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout


def test_every_file_in_the_readme_exists():
    named = re.findall(r"(?:examples|docs)/[\w./-]*\w", README)
    assert named
    assert [name for name in named if not (PROJECT / name).exists()] == []


PYTHON = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", PYTHON)
def test_the_python_in_the_readme_calls_existing_methods(example):
    tree = ast.parse(example)
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "client"
    }
    assert called
    assert [name for name in called if not hasattr(Client, name)] == []
    assert [name for name in called if not hasattr(BlockingClient, name)] == []


# --- The set-up commands ----------------------------------------------------------------------

BUNDLED = Path(ensurepip.__file__).parent / "_bundled"
PACKAGE = "boxsched_test_package"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A small package to install, without the network."""
    path = tmp_path_factory.mktemp("wheels") / f"{PACKAGE}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        info = f"{PACKAGE}-1.dist-info"
        file.writestr(f"{PACKAGE}.py", "")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


def set_up(folder, wheel, *, active=None, blocked=None):
    """Set up as the README says, with the environment ``active`` on the PATH."""
    venv, python, install = re.search(
        r"^(python3 -m venv \S+ \.venv) && (\S+) (\S+) \. &&", README, re.MULTILINE
    ).groups()
    command = f"{venv} && {python} {PROJECT / install} --quiet {wheel}"
    base = Path(sys._base_executable).parent
    path = ([f"{active}/bin"] if active else []) + [str(base), "/usr/bin", "/bin"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    kept |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(BUNDLED), "PATH": ":".join(path)}
    if blocked:
        kept["PYTHONPATH"] = str(blocked)
    else:
        kept.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, env=kept, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done
    found = subprocess.run(
        [folder / ".venv/bin/python", "-c", f"import {PACKAGE} as p; print(p.__file__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.startswith(str(folder / ".venv"))


@pytest.fixture
def no_ensurepip(tmp_path):
    """As on Debian without the package python3-venv."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "ensurepip.py").write_text("raise ImportError('not here')\n")
    return folder


def test_set_up_works_without_an_active_environment(tmp_path, wheel):
    set_up(tmp_path, wheel)


def test_set_up_can_be_repeated_while_the_environment_itself_is_active(tmp_path, wheel):
    set_up(tmp_path, wheel)
    set_up(tmp_path, wheel, active=tmp_path / ".venv")


def test_set_up_works_while_an_environment_without_pip_is_active(tmp_path, wheel):
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
    set_up(tmp_path, wheel, active=other)


def test_set_up_works_where_venv_cannot_bring_pip(tmp_path, wheel, no_ensurepip):
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
    set_up(tmp_path, wheel, active=other, blocked=no_ensurepip)


def test_set_up_outside_an_environment_is_refused():
    done = subprocess.run(
        [sys._base_executable, PROJECT / ".ci/install.py", "x"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "virtual environment" in done.stderr


def test_the_json_in_the_readme_is_valid():
    for body in re.findall(r"--json '(.+?)'", SHELL):
        json.loads(body)

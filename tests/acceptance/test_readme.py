"""What the README shows is there: its commands, options and files."""

import json
import re
import shlex

import click
import pytest

from boxsched.cli import main
from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^boxsched .+", SHELL, re.MULTILINE)


def test_there_are_exactly_two_set_up_commands():
    commands = re.findall(r"^ *(python3 -m venv .+)$", README, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith(" .venv/bin/boxsched demo")
    assert commands[1].endswith(" .venv/bin/python -m pytest")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line):
    name, *words = shlex.split(line, comments=True)
    command, context = main, click.Context(main, info_name=name)
    while isinstance(command, click.Group):
        if command.invoke_without_command and (not words or words[0].startswith("-")):
            break
        name = words.pop(0)
        command = command.get_command(context, name)
        assert command is not None, name
    command.make_context(name, words)  # a usage error is raised here


def test_every_option_of_the_table_is_one_of_serve():
    rows = re.findall(r"^\| (`--.*?) \| (`BOXSCHED_.*?) \|", README, re.MULTILINE)
    options = re.findall(r"--[a-z-]+", " ".join(row[0] for row in rows))
    variables = re.findall(r"BOXSCHED_[A-Z_]+", " ".join(row[1] for row in rows))
    serve = main.get_command(click.Context(main), "serve")
    envvars = {o.opts[0]: o.envvar for o in serve.params if not getattr(o, "hidden", False)}
    assert dict(zip(options, variables, strict=True)) == envvars


def test_every_file_it_names_is_there():
    named = re.findall(r"(?:examples|docs)/[\w./-]*\w", README)
    assert named
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_its_json_is_json():
    for body in re.findall(r"--json '(.+?)'", SHELL):
        json.loads(body)

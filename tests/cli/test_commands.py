"""The commands without a service: help, wrong use, and how the service is found."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading

import click
import pytest
from click.testing import CliRunner

from boxsched.cli import main
from boxsched.cli.variables import OF_JOBS
from boxsched.folders import DataFolder, default_data
from boxsched.worker.agent.plan import Places, job_environment
from tests.cli.conftest import NOWHERE
from tests.worker.harness import assigned

COMMANDS = main.list_commands(click.Context(main))
SUBCOMMANDS = [
    *(["project", name] for name in ("apply", "list", "show", "delete")),
    *(["token", name] for name in ("create", "list", "revoke")),
    ["workers", "list"],
]
GROUPS = [
    name
    for name in COMMANDS
    if isinstance(main.get_command(click.Context(main), name), click.Group)
]
READING = [
    ["list"],
    ["show", "w1"],
    ["explain", "w1"],
    ["logs", "w1"],
    ["project", "list"],
    ["project", "show", "web"],
    ["workers", "list"],
    ["nodes"],
    ["nodes", "list"],
    ["token", "list"],
    ["set-aside", "list"],
    ["set-aside", "show", "1"],
]


def run(*arguments, **environment):
    return CliRunner().invoke(main, list(arguments), env={**NOWHERE, **environment})


def listening(folder, url="http://127.0.0.1:1", token="a-token"):
    folder.mkdir(exist_ok=True)
    data = DataFolder(folder)
    data.service_file.write_text(json.dumps({"url": url, "pid": 1}))
    data.token_file.write_text(token + "\n")
    return folder


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + SUBCOMMANDS, ids=" ".join)
def test_each_help_shows_an_example(command):
    done = run(*command, "--help")
    assert done.exit_code == 0
    if command != ["simulate"]:  # its example is a scenario
        assert re.search(r"Examples?:\s+boxsched ", done.output)


def test_the_general_help_names_every_command_and_imports_none():
    script = (
        "import sys\n"
        "from boxsched.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([m for m in ('aiohttp', 'rich', 'msgspec', 'yaml') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--port", "99999"],
        ["serve", "--max-boxes", "99999999999999999999"],
        ["worker", "--log-limit", "99999999999999999999"],
        ["serve", "--policy", "chance"],
        ["serve", "--box-driver", "docker"],
        ["serve", "--boxes", "-1"],
        ["serve", "--priority-aging", "0"],
        ["serve", "--redis", "redis://localhost"],
        ["serve", "--database", "mysql://localhost/x"],
        ["check", "--database", "sqlite:////nowhere/at/all"],
        ["build"],
        ["build", "web", "--branch", "a", "--tag", "b"],
        ["build", "web", "--priority", "101"],
        ["deploy", "web"],
        ["list", "--state", "asleep"],
        ["list", "--limit", "0"],
        ["logs", "w1", "--follow", "--json"],
        ["bench", "--core", "--waiting", "1000,many"],
        ["bench", "--builds", "1", "--seconds", "1"],
        ["bench", "--seconds", "0"],
        ["project", "apply", "/nowhere.yaml"],
    ],
    ids=" ".join,
)
def test_wrong_use_exits_with_2_and_the_reason(arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "NaN", "1e999"])
@pytest.mark.parametrize(
    "option",
    ["--priority-aging", "--lost-after", "--shutdown-grace", "--stop-grace", "--retry-interval"],
)
def test_seconds_must_be_a_finite_number(option, number):
    """Infinity would mean "no limit", and a comparison with NaN is never true."""
    done = run("serve", option, number)
    assert done.exit_code == 2
    assert option in done.output


def test_an_argument_that_is_not_text_is_reported_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "boxsched", "build", b"\xff", "--branch", "main"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "boxsched: '\\udcff': an argument must be valid UTF-8\n"


def test_a_variable_that_is_not_text_is_reported_in_one_line():
    environment = {**os.environb, b"BOXSCHED_URL": b"http://\xff"}
    done = subprocess.run(
        [sys.executable, "-m", "boxsched", "list"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert done.stderr == "boxsched: 'BOXSCHED_URL': its value must be valid UTF-8\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--advertise", "http://["), "--advertise: 'http://[' is not the address of a service"),
        (("--advertise", "ci.example.org"), "is not the address of a service"),
        (("--host", "a..b"), "cannot listen on a..b:0: not a valid host name"),
        (("--database", "postgresql://u@h:99999/x"), "the port '99999' is not a number"),
        (("--database", "postgresql://u@a..b/x"), "'a..b' is not a valid host name"),
    ],
)
def test_an_invalid_address_ends_the_start(options, said, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "boxsched", "serve", "--data", tmp_path, "--port", "0", *options],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    last = done.stderr.splitlines()[-1]
    assert said in last and "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["http://[", "http://x:y", "nothing", "http://", "ftp://x"])
def test_an_invalid_address_is_reported_in_one_line(url):
    done = run("list", "--url", url, "--token", "x")
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)
    assert f"{url!r} is not the address of a service" in done.output
    assert run("list", "--url", url).output == done.output


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_every_summary_fits_on_a_narrow_terminal(group):
    listed = run(*group.split(), "--help", COLUMNS="80").stdout.partition("Commands:\n")[2]
    assert listed
    assert "..." not in listed
    assert max(map(len, listed.splitlines())) < 80


def test_every_option_of_serve_is_an_environment_variable():
    serve = main.get_command(click.Context(main), "serve")
    for option in serve.params:
        [name] = [text for text in option.opts if text.startswith("--")]
        assert option.envvar == "BOXSCHED_" + name[2:].upper().replace("-", "_")


def test_serve_reads_its_environment():
    done = run("serve", BOXSCHED_DATABASE="mysql://localhost/x")
    assert done.exit_code == 2
    assert "'mysql' is not a kind of database" in done.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_only_a_misspelled_variable_is_reported(monkeypatch, command):
    for name in [name for name in os.environ if name.startswith("BOXSCHED_")]:
        monkeypatch.delenv(name)
    given = dict.fromkeys(OF_JOBS, "1") | {
        "BOXSCHED_BOXS": "4",
        "BOXSCHED_NONSENSE": "1",
        "BOXSCHED_TEST_SEED": "1",
        "BOXSCHED_TOKEN_FILE": "/none",  # of other commands, or of this one
        "BOXSCHED_DATABASE": "mysql://localhost/x",
    }
    *told, _ = run(command, **given).stderr.splitlines()
    assert told == [
        f"boxsched: BOXSCHED_BOXS is not an option of {command}; BOXSCHED_BOXES?",
        f"boxsched: BOXSCHED_NONSENSE is not an option of {command}",
    ]


def test_variables_of_jobs_are_not_reported_as_misspelled():
    of_build, of_deploy = (
        job_environment(assigned(1, **more), Places("/script", "/home", "/tmp"))
        for more in ({"branch": "main", "tag": "v1", "commit": "abcdef1"}, {"server": "web"})
    )
    seen = {name for name in of_build | of_deploy if name.startswith("BOXSCHED_")}
    assert seen == OF_JOBS


@pytest.mark.parametrize(
    "url", ["redis://ci:pa55/w0rd@cache", "redis://:w0rd@cache/0?pa55=w0rd", "redis://w0rd@[cache"]
)
def test_an_invalid_redis_url_is_reported_in_one_line_without_its_password(url):
    done = run("serve", "--database", "postgresql://db/boxsched", "--redis", url)
    assert done.exit_code == 2
    assert "--redis: must be redis:" in done.stderr
    assert "w0rd" not in done.stderr and "pa55" not in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_without_a_service_the_message_says_how_to_start_one(tmp_path, arguments):
    done = run(*arguments, "--data", str(tmp_path))
    assert done.exit_code == 1
    assert "start one with `boxsched serve`" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_service_that_was_killed_is_reported_to_be_away(tmp_path, monkeypatch):
    monkeypatch.setattr("boxsched.cli.connection.PATIENCE_SECONDS", 0)
    done = run("list", "--data", str(listening(tmp_path / "data")))
    assert done.exit_code == 1
    assert "nothing listens there; start it with `boxsched serve`" in done.stderr


def test_starting_is_suggested_only_if_nothing_listens(monkeypatch):
    monkeypatch.setattr("boxsched.cli.connection.PATIENCE_SECONDS", 0)
    done = run("list", "--url", "http://nosuch.invalid", "--token", "x")
    assert done.exit_code == 1
    assert "nosuch.invalid" in done.stderr
    assert "boxsched serve" not in done.stderr


def test_another_program_that_refuses_is_not_mistaken_for_boxsched():
    """A 401 without our error format is not about our token."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(401)

        def log_message(self, *_):
            """Print nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = run("list", "--url", url, "--token", "x")
        serving.join()
    assert done.exit_code == 2
    assert f"the server at {url} is not boxsched (401)" in done.stderr
    assert "admin-token" not in done.stderr


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_the_help_names_the_variables(command):
    said = " ".join(run(*command, "--help").stdout.split())
    for option, variable in (("--url URL", "URL"), ("--token-file FILE", "TOKEN_FILE")):
        assert re.search(rf"{option}.*Also BOXSCHED_{variable}. \[default: the local", said)


def test_the_local_token_is_not_given_to_other_services(tmp_path):
    data = listening(tmp_path / "boxsched")
    done = run("list", "--url", "http://127.0.0.1:2", XDG_DATA_HOME=str(data.parent))
    assert done.exit_code == 2
    assert "give one with --token" in done.stderr


def test_a_data_folder_without_a_readable_token_is_reported(tmp_path):
    data = listening(tmp_path / "data")
    DataFolder(data).token_file.unlink()
    done = run("list", "--data", str(data))
    assert done.exit_code == 2
    assert "admin-token" in done.stderr


def test_an_invalid_url_is_reported():
    done = run("list", "--url", "ftp://example.org", "--token", "x")
    assert done.exit_code == 2
    assert "http://HOST:PORT" in done.stderr


def test_the_users_data_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    local = tmp_path / ".local" / "share" / "boxsched"
    assert default_data({}, "linux") == local
    assert default_data({"XDG_DATA_HOME": "relative"}, "linux") == local
    assert default_data({"XDG_DATA_HOME": "/data"}, "linux").as_posix() == "/data/boxsched"
    mac = tmp_path / "Library" / "Application Support" / "boxsched"
    assert default_data({}, "darwin") == mac

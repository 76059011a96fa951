"""The commands against a real service: wrong use, missing things, and questions at a terminal."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from boxsched.folders import DataFolder
from tests.cli.conftest import PROJECT, SLOW, CommandRunner, end, environment, start

pytestmark = pytest.mark.usefixtures("projects")


def test_a_user_at_a_terminal_is_asked_before_something_is_deleted(shell):
    for answer, exists in (("n\n", True), ("y\n", False)):
        shell.process("project", "apply", _file(shell, {"name": "asked", "jobs": PROJECT["jobs"]}))
        said, status = at_a_terminal(shell, answer, "project", "delete", "asked")
        assert "Delete the project asked and its settings? [y/N]" in said
        assert status == (1 if exists else 0)
        names = [one["name"] for one in shell.json("project", "list")["projects"]]
        assert ("asked" in names) is exists
    shell.process("project", "apply", _file(shell, {"name": "asked", "jobs": PROJECT["jobs"]}))
    said, status = at_a_terminal(shell, "", "project", "delete", "asked", "--yes")
    assert (said, status) == ("asked: deleted\r\n", 0)


def _file(shell, settings):
    file = Path(shell.data) / "asked.json"
    file.write_text(json.dumps(settings))
    return str(file)


def at_a_terminal(shell, typed, *arguments):
    """Return the output for a user who types this, and the exit status."""
    main, other = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "boxsched", *arguments],
        env={**environment(shell.data), "TERM": "dumb"}, stdin=other, stdout=other, stderr=other,
    )  # fmt: skip
    os.close(other)
    said = b""
    try:
        if typed:
            while b"[y/N]" not in said:
                said += os.read(main, 4096)
            os.write(main, typed.encode())
        while data := os.read(main, 4096):
            said += data
    except OSError:  # the terminal's other side is closed
        pass
    finally:
        os.close(main)
    return said.decode(), process.wait(60)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "w999999"],
        ["show", "web#999999"],
        ["show", "../../etc"],
        ["explain", "nope#1"],
        ["logs", "w999999-1"],
        ["logs", "w1-999"],
        ["stop", "w999999"],
        ["rebuild", "w999999"],
        ["build", "nope"],
        ["build", "web", "--commit", "not-a-commit"],
        ["build", "web", "--branch", ""],
        ["deploy", "web", "nowhere"],
    ],
    ids=" ".join,
)
def test_missing_and_invalid_arguments_exit_with_2(shell, arguments):
    done = shell(*arguments, status=2)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_when_a_node_does_not_answer_the_next_is_asked(shell):
    folder = DataFolder(Path(shell.data))
    dead, live = "http://127.0.0.1:1", folder.listening().url
    token = ("--token-file", str(folder.token_file))
    assert shell("list", "--url", dead, "--url", live, *token).stdout.startswith("ID ")
    assert shell("list", *token, BOXSCHED_URL=f"{dead} {live}").stdout.startswith("ID ")
    done = shell("build", "web", "--wait", "--url", f"{dead},{live}", *token)
    assert " passed: waited" in done.stdout
    refused = shell("list", "--url", dead, "--url", "http://127.0.0.1:2", *token, status=1).stderr
    assert f"no node can serve: cannot reach the service at {dead}: nothing listens" in refused


def test_a_wrong_token_is_refused(shell):
    done = shell("list", "--token", "bxs_wrong", status=2)
    assert "admin-token in its data folder" in done.stderr


def test_only_its_owner_can_read_the_token(shell):
    file = DataFolder(Path(shell.data)).token_file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_service_on_the_folder_is_refused(shell):
    done = shell.process("serve", "--port", "0", status=1)
    assert "is in use by process" in done.stderr
    assert DataFolder(Path(shell.data)).listening() is not None


def test_a_used_port_is_reported(shell, tmp_path):
    port = DataFolder(Path(shell.data)).listening().url.rpartition(":")[2]
    done = shell.process("serve", "--port", port, "--data", str(tmp_path), status=1)
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_a_service_prints_its_data_folder_and_at_its_end_that_jobs_continue(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "boxsched", "serve", "--port", "0", "--boxes", "1"],
        env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline().startswith("listening on ")
    said = process.stderr.readline()
    while "data folder" not in said:
        said = process.stderr.readline()
    token = tmp_path.resolve() / "admin-token"
    assert said == f"data folder: {tmp_path.resolve()}; sign in with the token in {token}\n"
    shell = CommandRunner(str(tmp_path))
    shell("project", "apply", _file(shell, SLOW))
    build = shell.json("build", "slow")
    follower = shell.begin("logs", f"{build['id']}-1", "--follow")
    while follower.stdout.readline() != "begun\n":
        assert follower.poll() is None
    process.send_signal(signal.SIGINT)
    assert "1 job continues; the next start on this data folder finds it\n" in process.stderr.read()
    assert process.wait(60) == 0
    again = start("serve", "--port", "0", "--boxes", "1", data=tmp_path)
    shell("stop", build["id"], "--wait")
    assert end(again) == 0
    follower.kill()
    follower.communicate()


def test_the_invariants_hold(shell):
    assert shell("check").stdout == "All invariants hold.\n"
    assert shell.json("check")["violations"] == []


def test_an_unusable_folder_is_reported(shell, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert "choose a folder" in shell.process("serve", "--data", str(file / "x"), status=1).stderr


def test_a_token_that_others_can_read_is_refused(shell, tmp_path):
    token = tmp_path / "admin-token"
    token.write_text("bxs_x")
    token.chmod(0o644)
    done = shell.process("serve", "--port", "0", "--data", str(tmp_path), status=1)
    assert str(token) in done.stderr
    assert "Traceback" not in done.stderr

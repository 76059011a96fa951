"""The commands against a real service: what a user does in the first hour."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from boxsched.client import BlockingClient
from boxsched.folders import DataFolder
from tests.cli.conftest import PROJECT, environment

pytestmark = pytest.mark.usefixtures("projects")


def test_projects_are_applied_shown_and_deleted(shell, tmp_path):
    file = tmp_path / "extra.json"
    file.write_text(json.dumps({"name": "extra", "jobs": PROJECT["jobs"]}))
    shell("project", "apply", str(file))
    assert shell("project", "apply", str(file)).stdout == "extra: unchanged\n"
    names = [one["name"] for one in shell.json("project", "list")["projects"]]
    assert names == ["broken", "extra", "slow", "web"]
    file.write_text(shell("project", "show", "extra", "--json").stdout)
    assert shell("project", "apply", str(file)).stdout == "extra: unchanged\n"
    assert "unit, lint" in shell("project", "show", "extra").stdout
    deploys = {"jobs": PROJECT["jobs"]}
    settings = {
        "name": "extra",
        "repository": "https://git.example.org/ada/extra.git",
        "jobs_from": ".ci.yml",
        "servers": {"staging": {**deploys, "strategy": "automatic"}, "production": deploys},
        "schedules": [
            {"cron": "30 2 * * *", "branch": "main", "time_zone": "Europe/Berlin"},
            {"cron": "@daily", "branch": "night"},
        ],
        "build_branches": ["main", "release/*"],
        "pull_requests": "forks",
        "hooks": [{"url": "https://hooks.example.org/x"}],
        "statuses": {"provider": "gitea", "api_url": "https://git.example.org", "token": "t"},
    }
    file.write_text(json.dumps(settings))
    shell("project", "apply", str(file))
    lines = shell("project", "show", "extra").stdout.splitlines()
    shown = {name.strip(): value for name, value in ((line[:19], line[19:]) for line in lines)}
    assert shown == {
        "project": "extra",
        "repository": settings["repository"],
        "jobs from": ".ci.yml",
        "servers": "staging (automatic), production",
        "schedules": "30 2 * * * Europe/Berlin (main), @daily UTC (night)",
        "build branches": "main, release/*",
        "pull requests": "forks",
        "hooks": "https://hooks.example.org/x",
        "statuses": "gitea",
    }
    shell("project", "delete", "extra")
    assert "there is no project 'extra'" in shell("project", "show", "extra", status=2).stderr


def test_an_empty_list_is_reported(shell):
    done = shell("list", "--project", "web", "--branch", "nothing like that")
    assert done.stdout.startswith("ID") and len(done.stdout.splitlines()) == 1
    assert done.stderr == "boxsched: no workload matches\n"
    found = shell.json("list", "--project", "web", "--branch", "nothing like that")
    assert found == {"workloads": [], "next_cursor": None}


def test_an_empty_list_of_jobs_is_named(shell, tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("name: empty\njobs: []\nservers: {production: {jobs: []}}\n")
    done = shell("project", "apply", str(file))
    assert done.stdout == "empty: created\n"
    has_to = "is empty: each submission must contain its jobs"
    assert done.stderr.splitlines() == [
        f"boxsched: empty: jobs {has_to}",
        f"boxsched: empty: servers.production.jobs {has_to}",
    ]
    shell("project", "delete", "empty", "--yes")


def test_an_error_in_the_settings_names_its_position(shell, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("name: web\nmax_boxes: many\n")
    done = shell("project", "apply", str(file), status=2)
    assert done.stderr == (
        f"boxsched: {file}: line 2, column 1: web: max_boxes: must be a whole number or null, "
        "not a string\n"
    )
    file.write_text("name: web\njobs:\n  - {name: unit, commands: 7}\n")
    done = shell("project", "apply", str(file), status=2)
    assert f"{file}: line 3, column 18: web: jobs[0].commands: must be a list" in done.stderr


def test_a_build_that_passes_shows_its_log(shell):
    done = shell("build", "web", "--wait", "--follow", "--message", "Faster search")
    assert "submitted: build of trunk" in done.stdout
    assert "unit | testing trunk\n" in done.stdout
    assert "lint | linted\n" in done.stdout  # and not the title or the colour
    assert "\x1b" not in done.stdout
    assert " passed: waited" in done.stdout


def test_a_build_that_fails_exits_with_1(shell):
    done = shell.process("build", "broken", "--wait", status=1)
    assert " failed: waited" in done.stdout
    assert "failed: exit status 3" in done.stdout


def until_running(shell, id_):
    while shell.json("show", id_)["state"] != "running":
        time.sleep(0.05)  # there is no notification for it; the test's time-out ends it


@pytest.mark.parametrize("option", ["--wait", "--follow"])
def test_interrupting_the_waiting_prints_what_continues(shell, option):
    process = shell.begin("build", "slow", option, "--branch", f"interrupted{option}")
    line = process.stdout.readline()
    id_ = line.partition("(")[2].partition(")")[0]
    if option == "--follow":
        assert [process.stdout.readline() for _ in range(2)] == ["+ echo begun\n", "begun\n"]
    until_running(shell, id_)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        said.splitlines()[-1]  # the reason for waiting may be printed before it
        == f"boxsched: {line.partition(' submitted')[0]} continues; to stop it: boxsched stop {id_}"
    )
    assert shell.json("show", id_)["state"] == "running"
    shell("stop", id_, "--wait")


def test_waiting_for_a_workload_that_can_never_start_prints_that_once(shell, tmp_path):
    jobs = [{"name": str(number), "commands": ["true"]} for number in range(5)]  # of 4 Boxes
    file = tmp_path / "wide.yaml"
    file.write_text(yaml.safe_dump({"name": "wide", "jobs": jobs}))
    shell("project", "apply", str(file))
    process = shell.begin("build", "wide", "--wait")
    id_ = process.stdout.readline().partition("(")[2].partition(")")[0]
    told = process.stderr.readline()
    assert "cannot start now" in told
    assert shell.json("explain", id_)["text"] in told
    shell("stop", id_)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1


def test_waiting_for_a_build_prints_json(shell):
    build = shell.json("build", "broken", "--wait", "--branch", "x", status=1)
    assert (build["state"], build["result"], build["branch"]) == ("finished", "failed", "x")
    followed = shell("build", "web", "--follow", "--json")
    assert json.loads(followed.stdout)["result"] == "passed"
    assert "testing trunk" in followed.stderr


def test_a_passed_build_is_deployed(shell):
    build = shell.json("build", "web", "--wait", "--commit", "abcdef1")
    title = f"web#{build['number']}"
    deploy = shell.json("deploy", "web", "staging", "--build", title, "--wait")
    assert (deploy["kind"], deploy["server"], deploy["result"]) == ("deploy", "staging", "passed")
    assert deploy["commit"] == "abcdef1"


def test_a_workload_is_shown_explained_and_its_logs_are_read(shell):
    build = shell.json("build", "web", "--tag", "v1", "--wait")
    title = f"web#{build['number']}"
    assert shell.json("show", title) == shell.json("show", build["id"])
    assert "tag" in shell("show", title).stdout
    assert shell.json("explain", title)["phase"] == "finished"
    job = build["jobs"][0]["id"]
    shown = "+ echo testing $BOXSCHED_BRANCH\ntesting\n+ echo done\ndone\n"
    assert shell("logs", job).stdout == shown
    assert "unit | done\n" in shell("logs", title, "--follow").stdout
    logs = shell.json("logs", build["id"])["jobs"]
    assert [one["name"] for one in logs] == ["unit", "lint"]
    assert "\x1b]0;evil\x07" in logs[1]["log"]  # a program gets it unchanged, escaped as JSON


def test_lists_are_printed(shell):
    first, second = (shell.json("build", "web", "--branch", "listed", "--wait") for _ in range(2))
    listed = shell.json("list", "--project", "web", "--branch", "listed", "--state", "finished")
    assert [one["id"] for one in listed["workloads"]] == [second["id"], first["id"]]
    assert len(shell.json("list", "--limit", "1")["workloads"]) == 1
    table = shell("list", "--branch", "listed").stdout.splitlines()
    assert table[0].split() == [
        "ID", "WORKLOAD", "KIND", "FOR", "STATE", "PRIORITY", "WAITED", "RAN", "CREATED",
        "REASON", "MESSAGE",
    ]  # fmt: skip
    assert f"web#{second['number']}" in table[1]
    assert shell.json("list", "--kind", "ssh")["workloads"] == []


def test_a_list_by_state_accepts_the_words_that_it_shows(shell):
    failed = shell.json("build", "broken", "--branch", "words", "--wait", status=1)
    first, second = (shell.json("build", "slow", "--branch", "words") for _ in range(2))

    def listed(state):
        return [one["id"] for one in shell.json("list", "--state", state)["workloads"]]

    assert listed("failed")[0] == failed["id"]
    assert {"result": "failed"}.items() <= shell.json("show", failed["id"]).items()
    assert second["id"] in listed("upcoming")
    assert "upcoming" in shell("list", "--branch", "words").stdout
    assert "upcoming (ordering)" in shell("explain", second["id"]).stdout
    assert listed("blocked") == listed("queued") == []
    assert shell("stop", second["id"], first["id"], "--wait").stdout.splitlines() == [
        f"slow#{second['number']} ({second['id']}): canceled",
        f"slow#{first['number']} ({first['id']}): stopped",
    ]
    assert second["id"] in listed("canceled")
    assert first["id"] in listed("stopped")


def test_several_are_stopped_and_rebuilt_and_a_refused_one_affects_no_other(shell):
    builds = [shell.json("build", "slow", "--branch", f"several {n}") for n in range(2)]
    ids = [one["id"] for one in builds]
    done = shell("stop", ids[0], "w999999", ids[1], "--wait", "--json", status=2)
    ended = {one["id"]: one["result"] for one in json.loads(done.stdout)["workloads"]}
    assert ended.keys() == {*ids} and {*ended.values()} <= {"stopped", "canceled"}  # begun or not
    assert done.stderr == "boxsched: there is no workload 'w999999'\n"
    failing = [shell.json("build", "broken", "--branch", "several", "--wait", status=1)["id"]]
    again = shell("rebuild", *failing, "web#999999", "--wait", status=2)
    assert " failed: waited" in again.stdout
    assert again.stderr == "boxsched: there is no workload 'web#999999'\n"
    assert "requires a single ID" in shell("rebuild", "w1", "w2", "--follow", status=2).stderr


def test_json_has_every_field_of_the_api(shell):
    build = shell.json("build", "web", "--branch", "fields", "--wait")
    folder = DataFolder(Path(shell.data))
    with BlockingClient(folder.listening().url, folder.token()) as client:
        answers = {
            ("show", build["id"]): client.json("workloads", build["id"]),
            ("explain", build["id"]): client.json("workloads", build["id"], "explanation"),
            ("token", "list"): client.json("tokens"),
        }
        listed = client.json("workloads", branch="fields")
        workers = client.json("workers")["workers"]
        nodes = client.json("nodes")["nodes"]
    for command, answer in answers.items():
        assert shell.json(*command) == answer
    assert build == answers["show", build["id"]]
    assert {"boxes", "rebuild_of", "box_type"} <= build.keys() | build["jobs"][0].keys()
    assert shell.json("list", "--branch", "fields") == listed
    assert shell.json("workers", "list")["workers"][0].keys() == workers[0].keys()
    assert shell.json("nodes")["nodes"][0].keys() == nodes[0].keys()


def test_a_project_read_from_standard_input_continues_with_its_numbers(shell):
    def applied(text, *options, status=0):
        return subprocess.run(
            [sys.executable, "-m", "boxsched", "project", "apply", "-", *options],
            env=environment(shell.data), input=text, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    text = yaml.safe_dump({"name": "piped", "jobs": PROJECT["jobs"]})
    assert applied(text).stdout == "piped: created\n"
    first = shell.json("build", "piped", "--branch", "x", "--wait")
    as_json = shell("project", "show", "piped", "--json").stdout
    assert shell("project", "delete", "piped").stdout == "piped: deleted\n"
    assert applied(as_json).stdout == "piped: created\n"
    second = shell.json("build", "piped", "--branch", "x", "--wait")
    assert (first["number"], second["number"]) == (1, 2)
    assert shell.json("show", "piped#1")["id"] == first["id"]
    clash = applied(text, "--name", "other")
    assert (clash.returncode, clash.stdout) == (2, "")
    assert (
        "standard input: line 9, column 1: name: it is 'piped' in the file and 'other' in --name"
        in clash.stderr
    )
    assert "standard input: line 1" in applied("{").stderr


def test_waiting_prints_each_new_reason_once(shell):
    ahead = shell.json("build", "slow", "--branch", "told")
    process = shell.begin("build", "slow", "--branch", "told", "--wait")
    id_ = process.stdout.readline().partition("(")[2].partition(")")[0]
    first = process.stderr.readline()
    assert f"({id_}) waits for build #{ahead['number']} of slow to finish." in first
    shell("stop", ahead["id"], "--wait")
    assert process.stderr.readline().rstrip().endswith(f"({id_}) has started")
    shell("stop", id_)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1


def test_a_workload_that_waits_for_its_branch_is_explained_and_stopped(shell):
    first, second = (shell.json("build", "slow", "--branch", "b") for _ in range(2))
    why = shell.json("explain", second["id"])
    assert why["reason"] == "waits_for_lane"
    assert [one["id"] for one in why["blocked_by"]] == [first["id"]]
    assert first["id"] in shell("explain", second["id"]).stdout
    assert "canceled" in shell("stop", second["id"], "--wait").stdout
    assert "stopped" in shell("stop", first["id"], "--wait").stdout
    refused = shell("stop", first["id"], status=1).stderr
    assert refused.startswith(f"boxsched: {first['id']}: it has finished: ")


def test_several_are_stopped_at_once_so_that_none_of_them_starts(shell):
    builds = [shell.json("build", "slow", "--branch", "all of a lane") for _ in range(3)]
    ids = [one["id"] for one in builds]
    done = shell.json("stop", *ids, "--wait")["workloads"]
    assert [one["id"] for one in done] == ids, "in the order in which they were given"
    assert [one["result"] for one in done] == ["stopped", "canceled", "canceled"]
    assert [one["started_at"] is None for one in done] == [False, True, True]


def test_a_rebuild_is_a_new_workload(shell):
    first = shell.json("build", "broken", "--branch", "again", "--wait", status=1)
    again = shell.json("rebuild", first["id"], "--wait", status=1)
    assert again["number"] > first["number"]
    assert again["branch"] == "again"

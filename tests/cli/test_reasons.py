"""Reasons and next steps in ``--wait``, ``show``, ``list``, ``explain`` and ``resolve``."""

import json

import pytest

SLOW = {"name": "slow", "commands": ["sleep 600"]}


@pytest.fixture(scope="module")
def projects(shell, tmp_path_factory):
    folder = tmp_path_factory.mktemp("projects")

    def apply(name, **settings):
        file = folder / f"{name}.json"
        file.write_text(json.dumps({"name": name, **settings}))
        shell("project", "apply", str(file))

    apply("pri", jobs=[SLOW], cancellation=[["*", "all"]])
    failing = {"name": "unit", "commands": ["exit 3"]}
    apply("broken", jobs=[failing, SLOW], fail_fast=True)


def test_a_superseded_build_names_its_successor(shell, projects):
    first = shell.json("build", "pri", "--branch", "main")
    shell("build", "pri", "--branch", "main")
    shell("logs", f"{first['id']}-1", "--follow")  # until it ends
    why = "superseded by pri#2 (cancellation: all)"
    assert shell.json("show", first["id"])["reason"] == why
    assert why in shell("list", "--project", "pri").stdout
    assert why in shell("show", "pri#1").stdout
    shell("stop", "pri#2", "--wait")
    assert why in shell("explain", "pri#1").stdout
    assert "ed by admin." in shell("explain", "pri#2").stdout


def test_a_failed_build_names_each_cause_once(shell, projects):
    said = shell("build", "broken", "--branch", "main", "--wait", status=1).stdout
    lines = [line.strip() for line in said.splitlines()]
    assert "unit (w3-1) failed: exit status 3" in lines
    assert "slow (w3-2) stopped: job unit failed: exit status 3 (fail_fast)" in lines
    assert shell.json("show", "broken#1")["reason"] == "job unit failed: exit status 3"


def test_resolve_names_the_missing_arguments(shell, projects):
    running = shell.json("build", "pri", "--branch", "other")["id"]
    job = f"{running}-1"
    refused = shell("resolve", job, "failed", status=1).stderr
    assert "worker is connected" in refused or "has not begun" in refused
    assert "there is no job 'w999-1'" in shell("resolve", "w999-1", "failed", status=2).stderr
    assert "passed" in shell("resolve", job, "stopped", status=2).stderr
    assert "name one of them" in shell("resolve", "broken#1", "failed", status=2).stderr
    shell("stop", running, "--wait")
    assert "has finished: stopped" in shell("resolve", running, "failed", status=1).stderr

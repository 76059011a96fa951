"""``boxsched organization`` and ``--organization`` against a real service."""

import pytest


@pytest.fixture
def acme(shell):
    assert shell("organization", "create", "acme", "--max-boxes", "3").stdout == "acme: created\n"
    yield shell
    shell("organization", "delete", "acme", "--yes")


def settings(shell):
    found = {one["name"]: one for one in shell.json("organization")["organizations"]}
    return {
        field: found["acme"][field]
        for field in ("policy", "max_boxes", "priority_aging", "lost_retries")
    }


def test_what_is_not_given_stays(acme):
    first = {"policy": "backfill", "max_boxes": 3, "priority_aging": None, "lost_retries": 2}
    assert settings(acme) == first
    acme("organization", "set", "acme", "--policy", "strict", "--priority-aging", "60")
    assert settings(acme) == {**first, "policy": "strict", "priority_aging": 60}
    acme("organization", "set", "acme", "--no-max-boxes", "--no-priority-aging")
    assert settings(acme) == {**first, "policy": "strict", "max_boxes": None}


def test_they_are_listed(acme):
    lines = acme("organization").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ORGANIZATION", "acme", "default"]
    assert lines[1].split()[1:3] == ["backfill", "3"]


def test_mistakes_are_named(acme):
    again = acme("organization", "create", "acme", status=1)
    assert "there is an organization acme already: change it with `set`" in again.stderr
    unknown = acme("organization", "set", "other", "--policy", "strict", status=2)
    assert "there is no organization other; `boxsched organization` lists them" in unknown.stderr
    gone = acme("organization", "delete", "other", "--yes", status=2)
    assert "there is no organization 'other'" in gone.stderr
    elsewhere = acme("list", "--organization", "other", status=2)
    assert "there is no organization 'other'" in elsewhere.stderr


def test_commands_act_in_the_organization_that_is_named(acme, tmp_path):
    file = tmp_path / "web.yaml"
    file.write_text("name: its-own\njobs: [{name: test, commands: ['true']}]\n")
    acme("project", "apply", str(file), "--organization", "acme")
    assert acme.json("project", "list", "--organization", "acme")["projects"] != []
    mine = acme.json("project", "list")["projects"]
    assert "its-own" not in [one["name"] for one in mine]
    built = acme("build", "its-own", "--branch", "main", BOXSCHED_ORGANIZATION="acme")
    assert "its-own#1" in built.stdout + built.stderr
    acme("stop", "its-own#1", "--organization", "acme")
    token = acme.json("token", "create", "--role", "viewer", "--organization", "acme")
    assert token["organization"] == "acme"
    seen = acme("list", "--token", token["token"])
    assert "its-own#1" in seen.stdout

"""``boxsched token``, ``boxsched nodes`` and ``boxsched workers`` against a real service."""

import json
from pathlib import Path

import pytest

from boxsched.api.auth.tokens import looks_real


def test_a_new_token_is_printed_once_and_nothing_else(shell):
    done = shell("token", "create", "--role", "worker", "--name", "ci-4")
    token = done.stdout.strip()
    assert looks_real(token)
    assert "boxsched worker --url http://127.0.0.1:" in done.stderr
    assert "--token-file" in done.stderr
    assert token not in done.stderr
    listed = shell("token", "list")
    assert "ci-4" in listed.stdout
    assert token not in listed.stdout + listed.stderr
    refused = shell("list", "--token", token, status=2)
    assert "this token has the role worker" in refused.stderr


def test_a_token_is_printed_in_json(shell):
    made = shell.json("token", "create", "--role", "admin", "--expires", "0.5")
    assert made.keys() == {
        "id", "token", "role", "name", "organization", "projects", "servers", "created_at",
        "expires_at", "last_used_at", "of_file", "max_workers", "bound",
    }  # fmt: skip
    assert shell("list", "--token", made["token"]).stdout
    listed = {one["id"]: one for one in shell.json("token", "list")["tokens"]}
    assert listed[made["id"]]["expires_at"] == made["expires_at"]
    assert "token" not in listed[made["id"]]


def test_a_token_is_revoked(shell):
    made = shell.json("token", "create", "--role", "admin")
    assert shell("token", "revoke", made["id"]).stdout == f"{made['id']}: revoked\n"
    assert "401" in shell("list", "--token", made["token"], status=2).stderr
    gone = shell("token", "revoke", made["id"], status=2)
    assert f"there is no token '{made['id']}'" in gone.stderr


def test_a_token_is_revoked_by_its_name_if_the_name_is_unique(shell):
    one, *two = [
        shell.json("token", "create", "--role", "worker", "--name", name)["id"]
        for name in ("builder-1", "builder-2", "builder-2")
    ]
    done = shell("token", "revoke", "builder-1")
    assert done.stdout == f"builder-1 ({one}): revoked\n"
    left = "give the ID that `boxsched token list` shows"
    gone = shell("token", "revoke", "builder-1", status=2)
    assert f"there is no token 'builder-1': {left}" in gone.stderr
    assert f"2 tokens have this name: {left}" in (
        shell("token", "revoke", "builder-2", status=2).stderr
    )
    listed = {token["id"] for token in shell.json("token", "list")["tokens"]}
    assert one not in listed
    assert listed >= set(two)


def test_a_token_is_written_to_a_file(shell, tmp_path):
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(shell("token", "create", "--role", "admin").stdout)
    own = Path(shell.data, "service.json").read_text()
    elsewhere = {"BOXSCHED_DATA": str(tmp_path / "none"), "BOXSCHED_URL": json.loads(own)["url"]}
    assert "cannot read the token in" in shell("list", status=2, **elsewhere).stderr
    assert shell("list", "--token-file", str(file), **elsewhere).stdout
    there = elsewhere | {"BOXSCHED_TOKEN_FILE": str(file)}
    assert shell("list", **there).stdout
    assert "401" in shell("list", "--token", "wrong", status=2, **there).stderr  # goes before it
    file.chmod(0o644)
    assert "other users can read it" in shell("list", status=2, **there).stderr
    file.chmod(0o600)
    file.write_text("")
    assert f"{file}: the token is missing" in shell("list", status=2, **there).stderr
    file.unlink()
    assert "--token-file: cannot read" in shell("list", status=2, **there).stderr


def test_a_token_has_a_role_and_limits(shell):
    made = shell.json(
        *("token", "create", "--role", "developer", "--name", "dev", "--project", "web"),
        *("--project", "api-*", "--server", "staging", "--expires", "2"),
    )
    assert (made["role"], made["projects"], made["servers"]) == (
        "developer", ["web", "api-*"], ["staging"],
    )  # fmt: skip
    [row] = [line for line in shell("token", "list").stdout.splitlines() if made["id"] in line]
    assert "developer" in row and "projects web api-*, servers staging" in row
    refused = shell("token", "list", "--token", made["token"], status=2)
    assert "right administer" in refused.stderr and "role admin" in refused.stderr
    done = shell("token", "create", "--role", "developer")
    assert "It cannot deploy: name servers with --server" in done.stderr
    wider = shell.json("token", "create", "--role", "admin", "--project", "web*")["token"]
    refused = shell("token", "create", "--role", "viewer", "--token", wider, status=2)
    assert "your token is limited to 'web*': give patterns within them" in refused.stderr
    assert shell("token", "create", "--role", "viewer", "--project", "web", "--token", wider)


def test_a_limit_of_workers_is_set(shell):
    shell("token", "create", "--role", "worker", "--name", "fleet", "--fleet", "500")
    shell("token", "create", "--role", "worker", "--name", "before", "--max-workers", "7")
    shell("token", "create", "--role", "worker", "--name", "usual")
    listed = {
        token["name"]: (token["max_workers"], token["bound"])
        for token in shell.json("token", "list")["tokens"]
    }
    assert listed["fleet"] == (500, False) and listed["before"] == (7, False)
    assert listed["usual"] == (1, True)
    refused = shell("token", "create", "--role", "admin", "--fleet", "5", status=2)
    assert "--fleet" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["create"],
        ["create", "--role", "king"],
        ["create", "--role", "worker", "--project", "web"],
        ["create", "--role", "worker", "--server", "staging"],
        ["create", "--role", "viewer", "--project", ""],
        ["create", "--role", "admin", "--expires", "0"],
        ["create", "--role", "admin", "--expires", "nan"],
        ["revoke"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_refused(shell, arguments):
    done = shell("token", *arguments, status=2)
    assert done.stderr
    assert done.stdout == ""


def test_nodes_are_listed(shell):
    [node] = shell.json("nodes")["nodes"]
    assert (node["alive"], node["shards"], node["me"]) == (True, [1], True)
    assert node["url"].startswith("http://127.0.0.1:")
    lines = shell("nodes").stdout.splitlines()
    assert shell.json("nodes", "list")["nodes"][0]["name"] == node["name"]
    assert shell("nodes", "list").stdout.splitlines()[0] == lines[0]
    refused = shell("nodes", "--json", "list", status=2)
    assert "options come after the command: boxsched nodes list" in refused.stderr
    assert len(lines) == 2
    assert lines[0].split()[:2] == ["NODE", "STATE"]
    assert f"{node['name']} *" in lines[1]
    assert "alive" in lines[1]


def test_workers_are_listed(shell):
    [worker] = shell.json("workers", "list")["workers"]
    assert (worker["name"], worker["state"], worker["boxes"]) == ("in-process", "connected", 4)
    assert worker["builds"] == worker["deploys"] == worker["ssh_sessions"] == 0
    head, row = shell("workers", "list").stdout.splitlines()
    assert head.split() == [
        "ID", "NAME", "ADDRESS", "STATE", "SEEN", "BOXES", "BUILDS", "DEPLOYS", "SESSIONS",
        "JOBS", "NOTE",
    ]  # fmt: skip
    assert row.split() == [
        worker["id"],
        "in-process",
        "in-process",
        "connected",
        "4",
        "0",
        "0",
        "0",
        *worker["enforced"].split(),
    ]


def test_revoking_a_nodes_own_token_prints_the_consequence(shell):
    """The last one: from here on the data folder's token is invalid."""
    keeper = shell.json("token", "create", "--role", "admin")["token"]
    [own] = [one for one in shell.json("token", "list")["tokens"] if one["of_file"]]
    assert own["name"].startswith("admin-token of node ")
    assert Path(shell.data, "admin-token").read_text().strip() not in json.dumps(own)
    done = shell("token", "revoke", own["id"], "--token", keeper)
    assert "delete the file admin-token in the node's data folder" in done.stderr
    assert "401" in shell("list", status=2).stderr

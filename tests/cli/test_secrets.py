"""``boxsched secrets``: a value is read from standard input or a file, and is never shown."""

import json

CANARY = "canary-cli-value"


def project(shell, tmp_path, name):
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps({"name": name, "jobs": [{"name": "t", "commands": ["true"]}]}))
    shell("project", "apply", str(file))
    return name


def test_secrets_are_set_listed_and_deleted(shell, tmp_path):
    web = project(shell, tmp_path, "secrets-web")
    done = shell("secrets", "set", web, "TOKEN", stdin=CANARY + "\n")
    assert done.stdout == f"{web}/TOKEN: set, version 1\n"
    file = tmp_path / "key"
    file.write_text(CANARY + "\n")
    done = shell("secrets", "set", web, "KEY", "--file", "--from", str(file))
    assert done.stdout == f"{web}/KEY: set, version 1\n"
    short = shell("secrets", "set", web, "PIN", stdin="123\n")
    assert "too short to be masked" in short.stderr
    listed = shell("secrets", "list", web)
    assert [line.split()[:3] for line in listed.stdout.splitlines()[1:]] == [
        ["KEY", "file", "1"],
        ["PIN", "variable", "1"],
        ["TOKEN", "variable", "1"],
    ]
    assert CANARY not in listed.stdout
    assert len(shell.json("secrets", "list", web)["secrets"]) == 3
    assert shell("secrets", "delete", web, "PIN", "--yes").stdout == f"{web}/PIN: deleted\n"
    assert "there is no secret" in shell("secrets", "delete", web, "PIN", "--yes", status=2).stderr


def test_bad_values_are_refused_and_not_quoted(shell, tmp_path):
    web = project(shell, tmp_path, "secrets-bad")
    for name, value in (("A", ""), ("A", CANARY * 6_000), ("BOXSCHED_A", CANARY), ("A", "\0")):
        refused = shell("secrets", "set", web, name, stdin=value, status=2)
        assert CANARY not in refused.stderr
    assert "UTF-8" in shell("secrets", "set", web, "A", stdin=b"\xff", status=2).stderr


def test_a_rotation_seals_again_what_another_key_sealed(shell, tmp_path):
    web = project(shell, tmp_path, "secrets-rotated")
    shell("secrets", "set", web, "TOKEN", stdin=CANARY)
    assert shell("secrets", "rotate").stdout == "0 values sealed again\n"
    assert shell.json("secrets", "rotate") == {"resealed": 0, "unusable": []}

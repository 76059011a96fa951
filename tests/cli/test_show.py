"""What ``boxsched show`` and ``servers`` say of deploys."""

import json
import re

JOBS = [{"name": "ship", "commands": ["true"]}]


def finished(shell, *command):
    return shell.json(*command, "--wait")["id"]


def fields(shell, id_):
    lines = shell("show", id_).stdout.partition("\n\n")[0].splitlines()[1:]
    return dict(re.split("  +", line, maxsplit=1) for line in lines)


def test_a_deploy_names_its_build_and_a_rollback(shell, tmp_path):
    file = tmp_path / "ships.json"
    settings = {"name": "ships", "jobs": JOBS, "servers": {"production": {"jobs": JOBS}}}
    file.write_text(json.dumps(settings))
    shell("project", "apply", str(file))
    older, newer = (finished(shell, "build", "ships") for _ in range(2))
    deploys = [
        finished(shell, "deploy", "ships", "production", "--build", build)
        for build in (newer, older)
    ]
    first, back = (fields(shell, deploy) for deploy in deploys)
    assert (first["build"], first["server"], "rollback" in first) == (newer, "production", False)
    assert (back["build"], back["rollback"]) == (older, "yes: to an older build than was live")
    again = finished(shell, "rebuild", older)
    assert fields(shell, again)["rebuild of"] == older


def test_a_server_without_automatic_deploys_names_the_reason(shell, tmp_path):
    file = tmp_path / "narrow.json"
    server = {"jobs": [{**JOBS[0], "parallelism": 3}], "strategy": "automatic"}
    settings = {"name": "narrow", "jobs": JOBS, "max_boxes": 2, "servers": {"production": server}}
    file.write_text(json.dumps(settings))
    shell("project", "apply", str(file))
    problem = "it needs 3 Boxes; its project may use 2"
    done = shell("servers", "narrow")
    assert done.stderr == f"boxsched: production: no automatic deploys: {problem}\n"
    assert shell.json("servers", "narrow")["servers"][0]["problem"] == problem

"""A workload runs one commit, fixed by its first job: through the API, with real clones."""

from pathlib import Path
from typing import Any

import pytest

from tests.service.running_service import API, RunningService, job
from tests.worker.test_git import commit, git

# In place of ssh: run the command here once the file $WAIT_FOR exists.
SSH = """#!/bin/sh
while [ -n "$WAIT_FOR" ] && ! [ -e "$WAIT_FOR" ]; do sleep 0.05; done
for command; do :; done
exec sh -c "$command"
"""
SHOW = "git rev-parse HEAD; echo $BOXSCHED_COMMIT"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    commit(folder, "first")
    return folder


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    path = tmp_path / "ssh"
    path.write_text(SSH)
    path.chmod(0o755)
    return path


def clones(name: str, ssh: Path, wait_for: Path | str = "") -> dict[str, Any]:
    environment = {"GIT_SSH_COMMAND": str(ssh), "WAIT_FOR": str(wait_for)}
    return job(name, SHOW, environment=environment, show_commands=False)


async def log(service: RunningService, job_id: str) -> str:
    return (await service.call("GET", f"{API}/jobs/{job_id}/log")).body.decode()


async def test_a_push_between_the_clones_of_two_jobs_does_not_change_the_commit(
    executing_service: RunningService, repository: Path, ssh: Path, tmp_path: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    go = tmp_path / "go"
    await executing_service.project(
        "web",
        repository=f"ssh://host{repository}",
        jobs=[clones("one", ssh), clones("two", ssh, go)],
    )
    made = await executing_service.build(branch="main")
    await executing_service.until(made["id"], commit=first)  # before the other has cloned
    commit(repository, "second")
    go.touch()
    done = await executing_service.finished(made["id"])
    assert (done["result"], done["commit"]) == ("passed", first)
    for number in (1, 2):
        assert await log(executing_service, f"{made['id']}-{number}") == f"{first}\n{first}\n"


async def test_a_new_repository_setting_between_two_jobs_does_not_change_the_commit(
    executing_service: RunningService, repository: Path, ssh: Path, tmp_path: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    go = tmp_path / "go"
    jobs = [clones("one", ssh), clones("two", ssh, go)]
    await executing_service.project("web", repository=f"ssh://host{repository}", jobs=jobs)
    made = await executing_service.build(branch="main")
    await executing_service.until(made["id"], commit=first)
    await executing_service.project("web", repository="ssh://host/nowhere", jobs=jobs)
    go.touch()
    assert (await executing_service.finished(made["id"]))["result"] == "passed"
    assert await log(executing_service, f"{made['id']}-2") == f"{first}\n{first}\n"


async def test_deploys_and_sessions_of_a_build_run_its_commit(
    executing_service: RunningService, repository: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    show = job("show", SHOW, show_commands=False)
    await executing_service.project(
        "web", repository=str(repository), jobs=[show], servers={"s": {"jobs": [show]}}
    )
    made = await executing_service.build(branch="main")
    await executing_service.finished(made["id"])
    commit(repository, "second")
    again = (await executing_service.call("POST", f"{API}/workloads/{made['id']}/rebuild")).json
    deploy = await executing_service.call(
        "POST", f"{API}/projects/web/deploys", {"server": "s", "build": made["id"]}
    )
    for id_ in (again["id"], deploy.json["id"]):
        done = await executing_service.finished(id_)
        assert (done["result"], done["commit"]) == ("passed", first)
        assert await log(executing_service, f"{id_}-1") == f"{first}\n{first}\n"


async def test_a_short_hash_is_completed(
    executing_service: RunningService, repository: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    commit(repository, "second")
    git(repository, "branch", first[:7])
    await executing_service.project(
        "web", repository=str(repository), jobs=[job("show", SHOW, show_commands=False)]
    )
    made = await executing_service.build(branch="main", commit=first[:7])
    done = await executing_service.finished(made["id"])
    assert (done["result"], done["commit"]) == ("passed", first)
    assert await log(executing_service, f"{made['id']}-1") == f"{first}\n{first}\n"

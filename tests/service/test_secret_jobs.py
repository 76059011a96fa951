"""A secret reaches its job and appears nowhere else (docs/faults.md, S22)."""

import asyncio
import base64
import contextlib
import os
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest

from boxsched.model import Kind
from tests.contract.store_data import build, spec
from tests.service.running_service import API, RunningService, job

CANARY = "canary/51c0+value ü"
FILE = "-----BEGIN canary-file-1-----\ncanary-file-2/7q\n-----END-----\n"
SECRETS = f"{API}/projects/web/secrets"
FORMS = [
    form
    for text in (CANARY, *FILE.split("\n")[:2])
    for form in (
        text.encode(),
        urllib.parse.quote(text, safe="").encode(),
        *(base64.b64encode(b"x" * n + text.encode())[4:-4] for n in range(3)),
    )
]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", box_driver="process", boxes=2) as service:
        yield service


async def ran(service: RunningService, *commands: str, **asked: object) -> tuple[dict, bytes]:
    """Return a finished build of these commands, and its log."""
    jobs = [job("a", *commands, show_commands=False)]
    made = await service.build(jobs=jobs, **asked)
    done = await service.finished(made["id"])
    log = await service.call("GET", f"{API}/jobs/{done['jobs'][0]['id']}/log")
    return done, log.body


def files_with(folder: Path, words: list[bytes]) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            with contextlib.suppress(OSError):
                if path.is_file() and any(word in path.read_bytes() for word in words):
                    yield path


async def test_a_job_has_its_secrets_as_variables_and_files(site: RunningService) -> None:
    await site.project()
    await site.call("PUT", f"{SECRETS}/TOKEN", {"value": CANARY})
    await site.call("PUT", f"{SECRETS}/KEY", {"value": FILE, "file": True})
    done, log = await ran(
        site,
        'printf %s "$TOKEN" | od -An -tx1 | tr -d " \\n"; echo',
        'od -An -tx1 "$KEY" | tr -d " \\n"; echo',
        'stat -c "%a" "$KEY" "$(dirname "$KEY")"',
        'case "$KEY" in "$PWD"/*) echo inside;; esac; pwd; echo "$KEY"',
    )
    assert done["result"] == "passed", log
    lines = log.decode().splitlines()
    assert lines[:4] == [CANARY.encode().hex(), FILE.encode().hex(), "600", "700"]
    assert "inside" not in lines
    assert not Path(lines[-1]).exists(), "removed with the job's end"


async def test_the_secret_appears_in_no_form_anywhere_else(
    site: RunningService, tmp_path: Path
) -> None:
    await site.project()
    await site.call("PUT", f"{SECRETS}/TOKEN", {"value": CANARY})
    await site.call("PUT", f"{SECRETS}/KEY", {"value": FILE, "file": True})
    made = await site.build(
        jobs=[
            job(
                "a",
                'echo "a $TOKEN b"; cat "$KEY"',
                'printf "%s" "${TOKEN:0:6}"; printf "%s\\n" "${TOKEN:6}"',
                'for n in "" x xx; do printf "%s%s" "$n" "$TOKEN" | base64; done; base64 "$KEY"',
                'sed "s/^/> /" "$KEY"; echo "$TOKEN" >&2',
                "python3 -c \"import os, urllib.parse as u; print(u.quote(os.environ['TOKEN']))\"",
                "mkfifo fifo; echo waits; read -r line < fifo",
            )
        ]
    )
    id_ = (await site.look(made["id"]))["jobs"][0]["id"]
    headers = {"Authorization": f"Bearer {site.token}"}
    where = f"{site.url}{API}/jobs/{id_}/log?follow=1"
    async with asyncio.timeout(20), site.client.get(where, headers=headers) as following:
        await following.content.readuntil(b"\nwaits")
    # While the job runs: nothing in a command line, and nothing in the folders but the job's own
    # file.
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert b"canary" not in path.read_bytes(), path
    found = [path.name for path in files_with(tmp_path, FORMS)]
    assert found == ["KEY"], found
    fifo = next((tmp_path / "data" / "worker").glob("*/box/workspace/fifo"))
    await asyncio.to_thread(fifo.write_text, f"{CANARY}\n")
    done = await site.finished(made["id"])
    assert done["result"] == "passed"
    log = (await site.call("GET", f"{API}/jobs/{id_}/log")).body
    assert b"\na *** b\n***\n***\n***\n+" in log
    assert log.count(b"***") > 12
    assert not [form for form in FORMS if form in log]
    for path in ("/activity", f"/workloads/{made['id']}", "/projects/web", "/workers", "/boxes"):
        assert b"canary" not in (await site.call("GET", API + path)).body
    events = await site.node.store.events_after(1, 0, 0, 1_000)
    assert events and not any(b"canary" in event.data for event in events)
    assert list(files_with(tmp_path, FORMS)) == []


async def test_a_build_of_a_fork_and_its_repetitions_get_no_secret(site: RunningService) -> None:
    await site.project()
    await site.call("PUT", f"{SECRETS}/TOKEN", {"value": CANARY})
    made, _ = await ran(site, "true")
    original = await site.node.store.workload(int(made["id"][1:]))
    assert original is not None
    project = await site.node.store.project("web")
    assert project is not None
    new = build(project, jobs=(spec(),), commit=None, message=None, from_fork=True, kind=Kind.BUILD)
    say = ('echo "token: ${TOKEN-none}"',)
    new = attrs.evolve(new, jobs=(attrs.evolve(new.jobs[0], commands=say, show_commands=False),))
    submitted = await site.node.submit(new)
    first = await site.finished(f"w{submitted.id}")  # type: ignore[union-attr]
    again = await site.call("POST", f"{API}/workloads/{first['id']}/rebuild", {})
    second = await site.finished(again.json["id"])
    for one in (first, second):
        log = await site.call("GET", f"{API}/jobs/{one['jobs'][0]['id']}/log")
        assert log.body == b"token: none\n"


async def test_a_variable_of_the_job_itself_stays_and_the_secret_is_masked(
    site: RunningService,
) -> None:
    await site.project()
    await site.call("PUT", f"{SECRETS}/TOKEN", {"value": CANARY})
    jobs = [job("a", f'echo "$TOKEN {CANARY}"', environment={"TOKEN": "own"}, show_commands=False)]
    made = await site.build(jobs=jobs)
    done = await site.finished(made["id"])
    log = await site.call("GET", f"{API}/jobs/{done['jobs'][0]['id']}/log")
    assert log.body == b"own ***\n"


async def test_without_the_key_a_job_fails_and_says_what_to_do(site: RunningService) -> None:
    await site.project()
    await site.call("PUT", f"{SECRETS}/TOKEN", {"value": CANARY})
    object.__setattr__(site.node.vault, "ring", None)
    done, log = await ran(site, "echo it ran")
    assert done["result"] == "failed"
    assert "--secrets-key-file" in done["jobs"][0]["reason"]
    assert b"it ran" not in log


async def test_a_deleted_secret_is_no_longer_given(site: RunningService) -> None:
    await site.project()
    await site.call("PUT", f"{SECRETS}/TOKEN", {"value": CANARY})
    await site.call("DELETE", f"{SECRETS}/TOKEN")
    _, log = await ran(site, 'echo "token: ${TOKEN-none}"')
    assert log == b"token: none\n"

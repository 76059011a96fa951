"""Artifacts over the API: kept by jobs, listed, downloaded, given to deploys, deleted (S19)."""

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from boxsched.blobs.artifacts import ArtifactLimits, ArtifactStore
from boxsched.errors import BoxschedError, TooLarge
from boxsched.model import parse_job
from boxsched.node.sweeping import LEFT_SECONDS, UNUSED_SECONDS, Sweeping
from boxsched.protocol.artifacts import ArtifactFile
from boxsched.protocol.workers import IN_PROCESS
from boxsched.store.operating.check import check
from tests.service.running_service import API, RunningService, job

MAKE = "mkdir -p out; echo one > out/a.txt; echo '<script>' > 'out/b\"c.html'; chmod +x out/a.txt"


@pytest.fixture
async def service(executing_service: RunningService) -> RunningService:
    await executing_service.project(
        "web",
        jobs=[job("make", MAKE, artifacts=["out"])],
        servers={"s": {"jobs": [job("ship", "find . -type f -perm -100; cat out/a.txt")]}},
    )
    return executing_service


async def built(service: RunningService, **asked: object) -> Any:
    (one,) = (await service.finished((await service.build(**asked))["id"]))["jobs"]
    return one


async def listed(service: RunningService, job_id: str) -> list[dict[str, Any]]:
    answer = await service.call("GET", f"{API}/jobs/{job_id}/artifacts")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["artifacts"]
    return found


async def test_a_list_has_path_size_and_hash(service: RunningService) -> None:
    one = await built(service)
    found = await listed(service, one["id"])
    assert found[0] == {
        "path": "out/a.txt",
        "size": 4,
        "sha256": hashlib.sha256(b"one\n").hexdigest(),
    }
    assert [each["path"] for each in found] == ["out/a.txt", 'out/b"c.html']


async def test_a_download_is_an_attachment_that_no_browser_runs(service: RunningService) -> None:
    one = await built(service)
    answer = await service.call("GET", f"{API}/jobs/{one['id']}/artifacts/out/b%22c.html")
    assert (answer.status, answer.body) == (200, b"<script>\n")
    headers = answer.headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].endswith("; sandbox")
    assert headers["Content-Length"] == "9"
    disposition = "attachment; filename=\"b_c.html\"; filename*=UTF-8''b%22c.html"
    assert headers["Content-Disposition"] == disposition


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=1-2", 206, b"ne", "bytes 1-2/4"),
        ("bytes=2-", 206, b"e\n", "bytes 2-3/4"),
        ("bytes=-1", 206, b"\n", "bytes 3-3/4"),
        ("bytes=0-99", 200, b"one\n", None),
        ("bytes=9-", 200, b"one\n", None),
        ("bytes=-", 200, b"one\n", None),
        ("bytes=0-1,2-3", 200, b"one\n", None),
        ("lines=1", 200, b"one\n", None),
    ],
)
async def test_a_range_of_bytes(
    service: RunningService, asked: str, status: int, body: bytes, content_range: str | None
) -> None:
    one = await built(service)
    answer = await service.call(
        "GET", f"{API}/jobs/{one['id']}/artifacts/out/a.txt", headers={"Range": asked}
    )
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers.get("Content-Range") == content_range


@pytest.mark.parametrize(
    "path",
    [
        "../../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "out/%2e%2e/%2e%2e/admin-token",
        "out%2F..%2F..%2Fadmin-token",
        "%2Fetc%2Fpasswd",
        "/etc/passwd",
        "out/a.txt%00",
        "out/%0a",
        "%ff",
        "%ED%A0%80",
        "out",
        "out/",
        "nothing",
        "a" * 5_000,
    ],
)
async def test_no_path_leads_to_anything_else(service: RunningService, path: str) -> None:
    one = await built(service)
    before = await raw(service, f"{API}/jobs/{one['id']}/artifacts/{path}")
    assert before.split(b" ")[1] in (b"400", b"404"), before
    assert b"root:" not in before
    assert service.token.encode() not in before


async def raw(service: RunningService, target: str) -> bytes:
    """Send the target as it is; aiohttp's client would normalize it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: Bearer {service.token}\r\n\r\n".encode())
    said = await reader.read()
    writer.close()
    return said


async def test_unknown_jobs_and_callers_without_a_token(service: RunningService) -> None:
    one = await built(service)
    for path in ("w99-1/artifacts", "x/artifacts", "w99-1/artifacts/a"):
        assert (await service.call("GET", f"{API}/jobs/{path}")).status == 404
    path = f"{API}/jobs/{one['id']}/artifacts"
    for target in (path, f"{path}/out/a.txt"):
        assert (await service.call("GET", target, token=None)).status == 401


async def test_a_deploy_gets_the_files_of_its_build(service: RunningService) -> None:
    one = await built(service)
    deploy = await service.finished(
        (await service.deploy("s", build=one["id"].split("-")[0]))["id"]
    )
    log = (await service.call("GET", f"{API}/jobs/{deploy['jobs'][0]['id']}/log")).body
    assert deploy["result"] == "passed", log
    assert log.endswith(b"./out/a.txt\none\n")
    metrics = (await service.call("GET", "/metrics")).body
    assert b'boxsched_artifact_bytes_total{what="given"} 13.0' in metrics


async def test_of_two_jobs_the_later_ones_file_is_given(service: RunningService) -> None:
    jobs = [job(name, f"echo {name} > out", artifacts=["out"]) for name in ("a", "b")]
    await service.project("web", jobs=jobs, servers={"s": {"jobs": [job("ship", "cat out")]}})
    build = await service.finished((await service.build())["id"])
    deploy = await service.finished((await service.deploy("s", build=build["id"]))["id"])
    log = (await service.call("GET", f"{API}/jobs/{deploy['jobs'][0]['id']}/log")).body
    assert log.endswith(b"\nb\n")


async def test_a_rebuild_keeps_the_same_files(service: RunningService) -> None:
    one = await built(service)
    again = await service.call("POST", f"{API}/workloads/{one['id'].split('-')[0]}/rebuild")
    (two,) = (await service.finished(again.json["id"]))["jobs"]
    assert await listed(service, two["id"]) == await listed(service, one["id"])


# --- Workers ----------------------------------------------------------------------------------


@pytest.fixture
async def worker_token(service: RunningService) -> str:
    answer = await service.call("POST", f"{API}/tokens", {"role": "worker", "name": "w"})
    token: str = answer.json["token"]
    return token


async def test_a_worker_stores_nothing_for_a_job_that_it_does_not_hold(
    service: RunningService, worker_token: str
) -> None:
    build = await service.build(jobs=[job("wait", "sleep 60", artifacts=["x"])])
    running = await service.until(build["id"], state="running")
    (one,) = running["jobs"]
    path, query = f"{API}/jobs/{one['id']}/artifacts", "?lease_token=2&size=1&offset=0&sha256="
    sha256 = hashlib.sha256(b"x").hexdigest()
    file = {"path": "x", "size": 1, "sha256": sha256}
    for token, status in ((worker_token, 409), ("", 403)):
        body = {"lease_token": 2, "files": [file]}
        assert (await service.call("POST", path, body, token=token)).status == status
        put = await service.call("PUT", f"{path}/x{query}{sha256}", data=b"x", token=token)
        assert put.status == status, put.body
        given = f"{API}/jobs/{one['id']}/given-artifacts"
        asked = await service.call("GET", f"{given}?lease_token=2", token=token)
        assert asked.status == status
    assert await listed(service, one["id"]) == []


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("a%00b", {}, "file.path"),
        ("x", {"sha256": "A" * 64}, "sha256"),
        ("x", {"sha256": ""}, "sha256"),
        ("x", {"size": "-1"}, "size"),
        ("x", {"offset": "1"}, "offset"),
        ("x", {"lease_token": "x"}, "lease_token"),
        ("x", {"size": "99999999999999"}, "file.size"),
    ],
)
async def test_bad_uploads_are_refused(
    service: RunningService, worker_token: str, path: str, query: dict[str, str], field: str
) -> None:
    sent = {"lease_token": "2", "size": "1", "offset": "0", "sha256": "a" * 64, **query}
    text = "&".join(f"{name}={value}" for name, value in sent.items())
    answer = await service.call(
        "PUT", f"{API}/jobs/w1-1/artifacts/{path}?{text}", data=b"x", token=worker_token
    )
    assert answer.status in (413, 422), answer.body
    assert answer.error["field"] == field


# --- Deletion ---------------------------------------------------------------------------------


def stored(service: RunningService) -> list[Path]:
    return list((service.node.options.data / "blobs/files").glob("*/*"))


async def swept(service: RunningService, after: float) -> None:
    """Run one round as ``after`` seconds later."""
    node = service.node
    sweeping = Sweeping(node.store, node.files, node.clock, lambda: True)
    while await sweeping.run_once(node.clock.now() + after):
        pass


@pytest.fixture
async def twice(service: RunningService) -> tuple[Any, Any]:
    """Two builds of one content."""
    await service.project("web", jobs=[job("make", "echo same > out", artifacts=["out"])])
    return await built(service), await built(service, branch="x")


async def pruned(service: RunningService, before: float) -> int:
    now = service.node.clock.now()
    count, _ = await service.node.store.blobs.prune_artifacts(0, before, 100, now)
    return count


async def test_a_content_is_stored_once_and_goes_with_its_last_artifact(
    service: RunningService, twice: tuple[Any, Any]
) -> None:
    assert len(stored(service)) == 1
    await swept(service, UNUSED_SECONDS + 1)
    assert len(stored(service)) == 1
    # the last passed build of each branch stays; two newer ones let both go
    await service.project("web", jobs=[job("other", "true")])
    await service.finished((await service.build())["id"])
    later = service.node.clock.now() + 1
    assert await pruned(service, later) == 1
    await swept(service, UNUSED_SECONDS + 1)
    assert len(stored(service)) == 1
    await service.finished((await service.build(branch="x"))["id"])
    assert await pruned(service, later + 60) == 1
    await swept(service, 0)
    assert len(stored(service)) == 1  # it was used lately
    await swept(service, UNUSED_SECONDS + 1)
    assert stored(service) == []
    for one in twice:
        assert await listed(service, one["id"]) == []
    assert await check(service.node.options.database_url) == []


async def test_a_deploy_of_a_build_whose_artifacts_were_deleted_fails(
    service: RunningService,
) -> None:
    one = await built(service)
    await service.finished((await service.build())["id"])
    assert await pruned(service, service.node.clock.now() + 60) == 2
    deploy = await service.finished(
        (await service.deploy("s", build=one["id"].split("-")[0]))["id"]
    )
    assert deploy["result"] == "failed"
    assert "they were deleted, because they were old" in deploy["jobs"][0]["reason"]


async def test_files_without_an_entry_are_removed_after_a_day(
    service: RunningService, twice: tuple[Any, Any]
) -> None:
    """As after a crash between the file and its row, or in an upload."""
    folder = service.node.options.data / "blobs"
    shelf = f"files/{hashlib.sha256(b'left').hexdigest()[:2]}"
    (folder / shelf).mkdir(exist_ok=True)
    for name in (f"{shelf}/left", "uploads/left"):
        (folder / name).write_bytes(b"x")
    await swept(service, LEFT_SECONDS - 60)
    assert len(stored(service)) == 2
    await swept(service, LEFT_SECONDS + 60)
    assert len(stored(service)) == 1
    assert not list((folder / "uploads").iterdir())
    answer = await service.call("GET", f"{API}/jobs/{twice[0]['id']}/artifacts/out")
    assert answer.body == b"same\n"


async def test_a_content_whose_file_is_gone_is_an_error_that_says_so(
    service: RunningService, twice: tuple[Any, Any], mistakes: pytest.LogCaptureFixture
) -> None:
    (file,) = stored(service)
    file.unlink()
    answer = await service.call("GET", f"{API}/jobs/{twice[0]['id']}/artifacts/out")
    assert (answer.status, answer.error["code"]) == (409, "content_gone")
    assert "is not there, but the database refers to it" in mistakes.text


# --- Limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"artifact_limit": 10}, "big has 11 bytes; the limit is 10 bytes"),
        ({"artifact_total": 20}, "they have 22 bytes together; the limit is 20 bytes"),
    ],
)
async def test_limits_of_the_operator(tmp_path: Path, limits: dict[str, int], reason: str) -> None:
    data = tmp_path / "data"
    async with RunningService.open(data, box_driver="process", **limits) as service:
        make = "printf 12345678901 | tee big > big2"
        await service.project("web", jobs=[job("make", make, artifacts=["big*"])])
        one = await built(service)
        assert one["result"] == "failed"
        assert reason in one["reason"]
        assert await listed(service, one["id"]) == []


async def test_a_worker_cannot_fill_the_disk_under_one_lease(tmp_path: Path) -> None:
    """With files that it never finishes, with new contents of one path, or with a wrong size."""
    limits = {"artifact_limit": 40, "artifact_total": 100}
    async with RunningService.open(tmp_path / "data", box_driver="process", **limits) as service:
        lease = tmp_path / "lease"
        os.mkfifo(lease)
        say = f"echo $BOXSCHED_LEASE_TOKEN > {lease}; sleep 60"
        await service.project("web", jobs=[job("wait", say, artifacts=["out"])])
        build = await service.build()
        running = await service.until(build["id"], state="running")
        job_id = parse_job(running["jobs"][0]["id"])
        assert job_id is not None
        token = int(await asyncio.to_thread(lease.read_text))
        store, key = service.node.artifacts, (job_id, token)

        async def put(content: bytes, sent: int, size: int | None = None) -> int | None:
            sha256 = hashlib.sha256(content).hexdigest()
            one = ArtifactFile("x", len(content) if size is None else size, sha256)
            return await store.put(IN_PROCESS, key, one, 0, content[:sent])

        assert await put(b"a" * 40, 40) is None
        with pytest.raises(BoxschedError, match=r"size|SHA-256"):
            await put(b"a" * 40, 0, 0)
        assert await put(b"b" * 40, 39) == 39
        for name in b"cdefgh":
            with pytest.raises(TooLarge, match="at most 100 bytes"):
                await put(bytes([name]) * 40, 39)
        assert await put(b"b" * 40, 40) is None  # whole, although a part was there

        def on_disk() -> int:
            found = (tmp_path / "data/blobs").rglob("*-*-*")
            return sum(path.stat().st_size for path in found if path.is_file())

        assert 80 <= on_disk() <= 100
        # another node counts for itself what it is sent, as docs/artifacts.md says
        node = service.node
        bounds = ArtifactLimits(40, 100)
        store = ArtifactStore(node.store.blobs, node.files.places, bounds, node.clock.now)
        for name in b"ijklmn":
            with contextlib.suppress(TooLarge):
                await put(bytes([name]) * 40, 39)
        assert 100 < on_disk() <= 200


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../x", "a/../../b", "a//b", ""])
async def test_patterns_stay_in_the_workspace(service: RunningService, pattern: str) -> None:
    for settings in ({"jobs": [job("a", artifacts=["ok", pattern])]}, {"cache": [pattern]}):
        answer = await service.project("web", **settings)
        assert answer.status == 422, answer.body
        assert answer.error["field"] in ("jobs[0].artifacts[1]", "cache[0]")

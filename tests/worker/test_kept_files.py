"""Artifacts and caches of jobs, with either driver."""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.errors import BoxschedError, LeaseEnded, StoreAway, TooLarge
from boxsched.model import JobId, Kind
from boxsched.protocol.artifacts import PART_BYTES, ArtifactFile
from boxsched.protocol.assignments import Assignment, JobCache
from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result
from boxsched.worker.agent import savings
from tests.worker.conftest import end, needs_bubblewrap
from tests.worker.harness import AgentHarness, assigned, eventually

Key = tuple[JobId, int]
CACHE = JobCache("7", ("kept",), ("branch main",), "branch main")


class StoredFiles:
    """A store of artifacts in memory. ``refusal``: raised by the next calls."""

    def __init__(self) -> None:
        self.parts: dict[tuple[Key, str], bytes] = {}
        self.done: dict[tuple[Key, str], ArtifactFile] = {}
        self.of_build: dict[str, bytes] = {}
        self.refusals: list[BoxschedError] = []
        self.calls = 0

    def _call(self) -> None:
        self.calls += 1
        if self.refusals:
            raise self.refusals.pop(0)

    async def missing(self, key: Key, kept: Sequence[ArtifactFile]) -> Sequence[str]:
        self._call()
        return [one.path for one in kept if self.done.get((key, one.path)) != one]

    async def put(self, key: Key, file: ArtifactFile, offset: int, data: bytes) -> int | None:
        self._call()
        assert len(data) <= PART_BYTES
        before = self.parts.get((key, file.path), b"")
        assert offset == len(before)
        self.parts[key, file.path] = whole = before + data
        if len(whole) < file.size:
            return len(whole)
        assert hashlib.sha256(whole).hexdigest() == file.sha256
        self.done[key, file.path] = file
        return None

    async def given(self, key: Key) -> Sequence[ArtifactFile]:
        self._call()
        return [
            ArtifactFile(path, len(data), hashlib.sha256(data).hexdigest(), path.endswith(".sh"))
            for path, data in self.of_build.items()
        ]

    async def get(self, key: Key, file: ArtifactFile, offset: int) -> bytes:
        self._call()
        return self.of_build[file.path][offset : offset + PART_BYTES]

    @property
    def contents(self) -> dict[str, bytes]:
        return {path: self.parts[key, path] for key, path in self.done}


@pytest.fixture
def tmp_path(reachable_folder: Path) -> Path:
    return reachable_folder


@pytest.fixture
def files() -> StoredFiles:
    return StoredFiles()


@pytest.fixture(params=["process", pytest.param("bubblewrap", marks=needs_bubblewrap)])
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, files: StoredFiles
) -> AsyncIterator[AgentHarness]:
    options = {"transfers": files, "cache_bytes": 10 << 20}
    harness = AgentHarness(tmp_path / "worker", driver=request.param, **options)
    await harness.agent.start()
    yield harness
    await end(harness)


async def again(harness: AgentHarness, number: int, *commands: str, **other: Any) -> JobFinished:
    await harness.agent.reconcile([assigned(number, *commands, **other)])
    return await harness.end(number)


def deploy(number: int, *commands: str) -> Assignment:
    return assigned(number, *commands, kind=Kind.DEPLOY, server="s", is_given_artifacts=True)


# --- Artifacts --------------------------------------------------------------------------------


async def test_matching_files_are_stored_before_the_job_ends(
    harness: AgentHarness, files: StoredFiles
) -> None:
    make = "mkdir -p out/x; echo a > out/a; head -c 2500000 /dev/zero > out/x/big; touch out/empty"
    finished = await harness.run(make, "chmod +x out/a", artifacts=("out",))
    assert finished.result is Result.PASSED
    assert files.contents == {"out/a": b"a\n", "out/x/big": bytes(2_500_000), "out/empty": b""}
    executable = {path for (_, path), one in files.done.items() if one.executable}
    assert executable == {"out/a"}
    assert b"[boxsched: artifacts: 3 files kept, 2.4 MiB]\n" in harness.log()
    await harness.agent.reconcile([])
    await eventually(lambda: not (harness.folder / "w1-1-1").exists())


async def test_a_failed_job_keeps_its_report(harness: AgentHarness, files: StoredFiles) -> None:
    finished = await harness.run("echo bad > report; exit 3", artifacts=("report",))
    assert (finished.result, finished.exit_status) == (Result.FAILED, 3)
    assert files.contents == {"report": b"bad\n"}


async def test_a_job_at_its_time_limit_too_and_a_stopped_one_not(
    harness: AgentHarness, files: StoredFiles
) -> None:
    late = await harness.run("echo x > late; sleep 60", artifacts=("late",), timeout_seconds=0.5)
    assert late.result is Result.FAILED
    assert files.contents == {"late": b"x\n"}
    wanted = assigned(2, "echo x > stopped; echo begun; sleep 60", artifacts=("stopped",))
    await harness.agent.reconcile([wanted])
    await harness.said(2, b"begun")
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    assert (await harness.end(2)).result is Result.STOPPED
    assert "stopped" not in files.contents


async def test_links_and_special_files_are_left_out_and_named(
    harness: AgentHarness, files: StoredFiles, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    finished = await harness.run(
        f"mkdir out; ln -s {tmp_path}/secret out/link; ln -s {tmp_path} out/folder",
        "mkfifo out/pipe",
        "echo fine > out/file; ln -s / root",
        artifacts=("out", "root/*"),
    )
    assert finished.result is Result.PASSED
    assert files.contents == {"out/file": b"fine\n"}
    assert b"not kept: 'out/folder' (a link), 'out/link' (a link), 'out/pipe' (" in harness.log()


async def test_a_job_with_10000_files_fails_with_the_reason(
    harness: AgentHarness, files: StoredFiles
) -> None:
    finished = await harness.run("mkdir out; touch out/{1..10000}", artifacts=("out",))
    assert finished.result is Result.FAILED
    assert finished.reason == "its artifacts were not kept: more than 1000 files match"
    assert not files.contents


async def test_a_refusal_of_the_store_fails_a_job_that_passed(
    harness: AgentHarness, files: StoredFiles
) -> None:
    files.refusals = [TooLarge("they have 9.0 MiB together; the limit is 8.0 MiB")]
    finished = await harness.run("echo x > out", artifacts=("out",))
    assert finished.result is Result.FAILED
    assert finished.reason is not None and "the limit is 8.0 MiB" in finished.reason


async def test_a_sparse_file_is_refused_before_it_is_read(
    harness: AgentHarness, files: StoredFiles
) -> None:
    """It takes no disk, but days to read, and four of them would hold up all other jobs' files."""
    files.refusals = [TooLarge("out has too much")]
    finished = await harness.run("truncate -s 8T out", artifacts=("out",))
    assert finished.reason == "its artifacts were not kept: out has too much"
    assert files.calls == 1


async def test_large_files_that_the_store_takes_are_kept(
    harness: AgentHarness, files: StoredFiles
) -> None:
    finished = await harness.run("truncate -s 70M out", artifacts=("out",))
    assert finished.result is Result.PASSED, finished.reason
    assert files.contents == {"out": bytes(70 << 20)}


async def test_no_matching_file_is_only_a_line_in_the_log(harness: AgentHarness) -> None:
    finished = await harness.run("true", artifacts=("out/*",))
    assert finished.result is Result.PASSED
    assert b"[boxsched: artifacts: no file matches out/*]" in harness.log()


async def test_an_absent_store_is_waited_for(harness: AgentHarness, files: StoredFiles) -> None:
    files.refusals = [StoreAway("away")] * 3
    finished = await harness.run("echo x > out", artifacts=("out",))
    assert finished.result is Result.PASSED
    assert files.contents == {"out": b"x\n"}


async def test_an_ended_lease_ends_the_upload(harness: AgentHarness, files: StoredFiles) -> None:
    files.refusals = [LeaseEnded("no")]
    await harness.run("echo x > out", artifacts=("out",))
    assert not files.contents


async def test_a_stop_during_the_upload_ends_it(harness: AgentHarness, files: StoredFiles) -> None:
    files.refusals = [StoreAway("away")] * 1_000
    wanted = assigned(1, "echo x > out", artifacts=("out",))
    await harness.agent.reconcile([wanted])
    await eventually(lambda: files.calls)
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    # its commands had passed; but a build that passes has all its artifacts
    assert (await harness.end(1)).result is Result.STOPPED
    assert not files.contents


async def test_another_agent_goes_on_with_the_upload(
    harness: AgentHarness, files: StoredFiles
) -> None:
    files.refusals = [StoreAway("away")] * 1_000
    await harness.agent.reconcile([assigned(1, "echo x > out", artifacts=("out",))])
    await eventually(lambda: files.calls)
    await harness.agent.close()
    files.refusals = []
    harness.agent = harness._agent()
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, "echo x > out", artifacts=("out",))])
    assert (await harness.end(1)).result is Result.PASSED
    assert files.contents == {"out": b"x\n"}


async def test_a_large_upload_delays_no_other_job(
    harness: AgentHarness, files: StoredFiles
) -> None:
    files.refusals = [StoreAway("away")] * 1_000
    slow = assigned(1, "echo x > out", artifacts=("out",))
    await harness.agent.reconcile([slow])
    await eventually(lambda: files.calls)
    await harness.agent.reconcile([slow, assigned(2, "echo other")])
    assert (await harness.end(2)).result is Result.PASSED
    assert harness.store.finished(1) is None
    assert harness.log(2) == b"other\n"


# --- Artifacts in a deploy --------------------------------------------------------------------


async def test_a_deploy_has_its_builds_files_before_its_commands(
    harness: AgentHarness, files: StoredFiles
) -> None:
    files.of_build = {"dist/app": bytes(3_000_000), "run.sh": b"#!/bin/sh\necho ran\n", "e": b""}
    await harness.agent.reconcile(
        [deploy(1, "wc -c < dist/app; ./run.sh; [ -f e ]; echo > dist/n")]
    )
    finished = await harness.end(1)
    assert finished.result is Result.PASSED, harness.log()
    assert harness.log().endswith(b"\n3000000\nran\n")


async def test_a_deploy_whose_files_cannot_be_got_fails_without_its_commands(
    harness: AgentHarness, files: StoredFiles
) -> None:
    files.refusals = [BoxschedError("they were deleted")]
    await harness.agent.reconcile([deploy(1, "echo ran")])
    finished = await harness.end(1)
    assert (finished.result, finished.not_begun) == (Result.FAILED, False)
    assert finished.reason == "the artifacts of its build cannot be got: they were deleted"
    assert b"ran" not in harness.log()


async def test_a_deploy_can_be_stopped_while_it_waits_for_files(
    harness: AgentHarness, files: StoredFiles
) -> None:
    files.refusals = [StoreAway("away")] * 1_000
    wanted = deploy(1, "echo ran")
    await harness.agent.reconcile([wanted])
    await eventually(lambda: files.calls)
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    assert b"ran" not in harness.log()


# --- The cache --------------------------------------------------------------------------------


async def test_a_passed_job_leaves_files_for_the_next(harness: AgentHarness) -> None:
    await harness.run("mkdir -p kept/a; echo 1 > kept/a/n; ln -s a/n kept/l", kept_cache=CACHE)
    assert b"no cache of branch main yet" in harness.log()
    await again(harness, 2, "cat kept/l; stat -c %F kept/l; echo 2 > kept/a/n", kept_cache=CACHE)
    assert b"\n1\nsymbolic link\n" in harness.log(2)
    await again(harness, 3, "cat kept/a/n", kept_cache=CACHE)
    assert b"\n2\n" in harness.log(3)
    figures = harness.agent.cache_figures
    assert (figures.hits, figures.misses) == (2, 1)


def durations_of(harness: AgentHarness) -> Path:
    return harness.folder / "cache/durations.json"


@pytest.mark.parametrize(("before", "saves"), [(3_600.0, True), (0.0, False)])
async def test_what_a_cache_saves_is_compared_with_the_same_job_without_one(
    harness: AgentHarness, before: float, saves: bool
) -> None:
    """The job ran without a cache once; how long that took is replaced."""
    figures = harness.agent.cache_figures
    without = await harness.run("mkdir kept; touch kept/n", kept_cache=CACHE)
    (key, measured), *others = json.loads(durations_of(harness).read_text()).items()
    assert not others and len(measured) == 1
    assert without.seconds is not None and measured[0] >= without.seconds
    durations_of(harness).write_text(json.dumps({key: [before, before, 7_200.0]}))
    await again(harness, 2, "touch kept/m", name="another", kept_cache=CACHE)
    await again(harness, 3, "false", kept_cache=CACHE)
    assert figures.hits == 2, "one never ran without a cache, the other failed"
    assert (figures.saved_milliseconds, figures.lost_milliseconds) == (0, 0)
    finished = await again(harness, 4, "touch kept/n", kept_cache=CACHE)
    assert finished.seconds is not None
    took = round(abs(before - finished.seconds) * 1_000)
    if saves:
        assert 0 < figures.saved_milliseconds <= took and figures.lost_milliseconds == 0
    else:
        assert figures.lost_milliseconds >= took > 0 and figures.saved_milliseconds == 0
    (kept,) = json.loads(durations_of(harness).read_text()).values()
    assert len(kept) == 3, "only what found no cache is kept"


async def test_durations_outlive_the_agent_and_are_limited(
    harness: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(savings, "JOBS", 2)
    durations = durations_of(harness)
    for number in range(1, savings.RUNS + 2):
        key = f"branch {number}"
        none = JobCache("7", ("kept",), (key,), key)
        await again(harness, number, "true", kept_cache=none)
    (kept,) = json.loads(durations.read_text()).values()
    assert len(kept) == savings.RUNS
    await harness.restart()
    for number, name in ((7, "b"), (8, "c")):
        none = JobCache("7", ("kept",), (f"branch {number}",), None)
        await again(harness, number, "true", name=name, kept_cache=none)
    assert [len(kept) for kept in json.loads(durations.read_text()).values()] == [1, 1]


@pytest.mark.parametrize("content", ["{", '{"a": ["x"]}', "x" * (1 << 21)])
async def test_damaged_durations_are_no_harm(harness: AgentHarness, content: str) -> None:
    (harness.folder / "cache").mkdir(exist_ok=True)
    durations = durations_of(harness)
    durations.write_text(content)
    finished = await harness.run("true", kept_cache=CACHE)
    assert finished.result is Result.PASSED
    assert len(json.loads(durations.read_text())) == 1


async def test_a_link_whose_line_would_be_too_long_spoils_no_pack(harness: AgentHarness) -> None:
    long = r"$(printf '\xff%.0s' {1..3900})"
    await harness.run(f"mkdir kept; echo x > kept/z; ln -s {long} kept/a", kept_cache=CACHE)
    assert b"1 file kept" in harness.log()
    await again(harness, 2, "cat kept/z", kept_cache=CACHE)
    assert b"1 file of the cache" in harness.log(2)


async def test_a_failed_job_leaves_nothing(harness: AgentHarness) -> None:
    await harness.run("mkdir kept; echo 1 > kept/n; exit 1", kept_cache=CACHE)
    await again(harness, 2, "ls", kept_cache=CACHE)
    assert b"no cache of branch main yet" in harness.log(2)


async def test_a_branch_begins_with_the_default_branchs_and_keeps_its_own(
    harness: AgentHarness,
) -> None:
    await harness.run("mkdir kept; echo main > kept/n", kept_cache=CACHE)
    topic = JobCache("7", ("kept",), ("branch x", "branch main"), "branch x")
    await again(harness, 2, "cat kept/n; echo topic > kept/n", kept_cache=topic)
    await again(harness, 3, "cat kept/n", kept_cache=topic)
    await again(harness, 4, "cat kept/n", kept_cache=CACHE)
    said = [harness.log(n).splitlines()[2] for n in (2, 3, 4)]
    assert said == [b"main", b"topic", b"main"]


async def test_a_fork_reads_and_keeps_nothing_of_the_shared_part(harness: AgentHarness) -> None:
    await harness.run("mkdir kept; echo good > kept/n", kept_cache=CACHE)
    fork = JobCache("7", ("kept",), ("fork pull-request-1", "branch main"), "fork pull-request-1")
    await again(harness, 2, "cat kept/n; echo bad > kept/n", kept_cache=fork)
    own = JobCache("7", ("kept",), ("branch pull-request-1", "branch main"), None)
    await again(harness, 3, "cat kept/n", kept_cache=own)
    assert b"good" in harness.log(2)
    assert b"good" in harness.log(3)


async def test_another_project_has_another_cache(harness: AgentHarness) -> None:
    await harness.run("mkdir kept; echo 1 > kept/n", kept_cache=CACHE)
    other = JobCache("8", ("kept",), ("branch main",), "branch main")
    await again(harness, 2, "ls", kept_cache=other)
    assert b"no cache of branch main yet" in harness.log(2)


def packs_of(harness: AgentHarness) -> list[Path]:
    return sorted((harness.folder / "cache").glob("*.pack"))


async def test_a_damaged_pack_is_removed_and_the_job_runs_without_it(
    harness: AgentHarness,
) -> None:
    await harness.run("mkdir kept; echo 1 > kept/n", kept_cache=CACHE)
    (pack,) = packs_of(harness)
    pack.write_bytes(pack.read_bytes().replace(b"1\n", b"2\n"))
    finished = await again(harness, 2, "ls; mkdir kept; echo 3 > kept/n", kept_cache=CACHE)
    assert finished.result is Result.PASSED
    assert b"the cache of branch main is damaged and was removed" in harness.log(2)
    await again(harness, 3, "cat kept/n", kept_cache=CACHE)
    assert b"\n3\n" in harness.log(3)


async def test_the_packs_that_were_not_used_longest_go_first(harness: AgentHarness) -> None:
    for number, size in enumerate((6 << 20, 3 << 20, 3 << 20), 1):
        key = f"branch {number}"
        cache = JobCache("7", ("kept",), (key,), key)
        make = f"mkdir kept; head -c {size} /dev/zero > kept/n; echo {number} > kept/m"
        await again(harness, number, make, kept_cache=cache)
    assert [pack.stat().st_size >> 20 for pack in packs_of(harness)] == [3, 3]
    large = "mkdir kept; head -c 11000000 /dev/zero > kept/n"
    await again(harness, 4, large, kept_cache=CACHE)
    assert b"more than this worker's --cache-size" in harness.log(4)


async def test_a_checked_out_file_has_precedence(harness: AgentHarness, tmp_path: Path) -> None:
    """Here the workspace is empty, so only what the pack itself says is there."""
    await harness.run("mkdir kept; echo 1 > kept/n; mkfifo kept/p; ln -s /etc kept/e",
                      kept_cache=CACHE)  # fmt: skip
    await again(harness, 2, "ls -A kept", kept_cache=CACHE)
    assert harness.log(2).splitlines()[2:3] == [b"n"]


async def test_leftovers_of_a_dead_agent_are_removed(harness: AgentHarness) -> None:
    (harness.folder / "cache").mkdir(exist_ok=True)
    (harness.folder / "cache/new-1234").write_text("half of a pack")
    await harness.restart()
    assert not list((harness.folder / "cache").iterdir())

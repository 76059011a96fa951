"""A job's output: limited, marked where something is missing, otherwise unchanged."""

import contextlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxsched.protocol.assignments import JobSecret
from boxsched.states import Result
from boxsched.worker.supervisor.joblog import LINE_LIMIT_BYTES, MIB, READ_BYTES, BoundedLog
from tests.worker.harness import AgentHarness, assigned, eventually, job

FLOOD_BYTES = 150_000_000


async def test_a_flood_is_capped_and_marked(make_harness: Callable[..., AgentHarness]) -> None:
    harness = make_harness(log_limit=2 * MIB)
    await harness.agent.start()
    finished = await harness.run(f"yes 'a line of a flood' | head -c {FLOOD_BYTES}")
    assert finished.result is Result.PASSED
    log = harness.log()
    flood = b"a line of a flood\n" * (FLOOD_BYTES // 18 + 1)
    assert log[: 2 * MIB] == flood[: 2 * MIB]
    mark, _, end = log[2 * MIB + 1 :].partition(b"\n")
    cut = FLOOD_BYTES - 2 * MIB - len(end)
    said = f"[boxsched: the log's limit of 2 MiB is reached: {cut} bytes were cut here]"
    assert mark.decode() == said
    assert 2 * MIB - 18 <= len(end) <= 2 * MIB
    assert end == flood[FLOOD_BYTES - len(end) : FLOOD_BYTES]
    assert end.startswith(b"a line"), "the end begins with a whole line"


async def test_the_end_of_a_flood_is_there(make_harness: Callable[..., AgentHarness]) -> None:
    harness = make_harness(log_limit=MIB)
    await harness.agent.start()
    await harness.run("yes flood | head -c 20000000", "echo; echo the error at the end; exit 1")
    log = harness.log()
    assert log.endswith(b"\nthe error at the end\n")
    assert log.count(b"[boxsched:") == 1


async def test_secrets_are_masked_in_the_end_of_a_flood(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(log_limit=MIB)
    await harness.agent.start()
    secret = JobSecret("TOKEN", "hunter2-hunter2")
    command = "yes flood | head -c 9000000; for i in {1..100000}; do echo $TOKEN; done"
    await harness.run(command, secrets=(secret,))
    assert b"hunter2" not in harness.log()
    assert harness.log().endswith(b"\n***\n***\n")


async def test_a_flood_does_not_delay_the_others(make_harness: Callable[..., AgentHarness]) -> None:
    harness = make_harness(log_limit=4 * MIB)
    await harness.agent.start()
    flood = assigned(1, "yes flood")
    await harness.agent.reconcile([flood])
    await harness.said(1, b"flood")
    await harness.agent.reconcile([flood, assigned(2, "echo quiet")])
    assert (await harness.end(2)).result is Result.PASSED
    assert harness.store.finished(1) is None
    assert harness.log(2) == b"quiet\n"


async def test_a_long_line_is_cut(harness: AgentHarness) -> None:
    await harness.run("head -c 10485760 /dev/zero | tr '\\0' x", "echo", "echo next")
    line, after = harness.log().decode().splitlines()
    assert line == "x" * MIB + " [boxsched: 9437184 bytes of this line were cut]"
    assert after == "next"


async def test_binary_output_passes_unchanged(harness: AgentHarness, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(300_000)
    (tmp_path / "data").write_bytes(data)
    await harness.run(f"cat {tmp_path}/data")
    assert harness.store.log_when_finished[job(1)] == data


async def test_output_that_comes_with_the_end_is_not_lost(harness: AgentHarness) -> None:
    await harness.run("head -c 60000 /dev/zero | tr '\\0' x; echo; echo last")
    assert harness.log().endswith(b"x\nlast\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "boxsched-test", folder]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root mounts a small disk, and not everywhere")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


async def test_a_full_disk_fails_the_job_but_not_the_agent(small_disk: Path) -> None:
    harness = AgentHarness(small_disk / "worker")
    await harness.agent.start()
    one = assigned(1, "yes | head -c 5M", "echo unreached")
    await harness.agent.reconcile([one])
    finished = await harness.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, "disk full")
    assert b"unreached" not in harness.log()

    fill(small_disk / "filler")  # the next one cannot even be prepared
    await harness.agent.reconcile([one, assigned(2, "echo hi")])
    finished = await harness.end(2)
    assert (finished.result, finished.reason) == (Result.FAILED, "disk full")

    (small_disk / "filler").unlink()
    await harness.agent.reconcile([])
    await eventually(lambda: not list((small_disk / "worker/trash").iterdir()))
    await harness.agent.reconcile([assigned(3, "echo hi")])
    assert (await harness.end(3)).result is Result.PASSED
    await harness.agent.close()


# --- The limits by themselves -------------------------------------------------------------------


def written(tmp_path: Path, chunks: list[bytes], limit: int = 64 * MIB) -> bytes:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    log = BoundedLog(descriptor, limit)
    for chunk in chunks:
        log.take(chunk)
    log.finish()
    os.close(descriptor)
    return path.read_bytes()


def test_lines_are_cut_at_any_chunk_borders(tmp_path: Path) -> None:
    text = b"short\n" + b"y" * (LINE_LIMIT_BYTES + 5) + b"\n\nend\n" + b"z" * (LINE_LIMIT_BYTES * 2)
    chance = random.Random(2)
    outcomes = set()
    for _ in range(5):
        chunks, rest = [], text
        while rest:
            size = chance.randint(1, READ_BYTES)
            chunks.append(rest[:size])
            rest = rest[size:]
        outcomes.add(written(tmp_path, chunks))
    (outcome,) = outcomes
    cut = b"[boxsched: %d bytes of this line were cut]\n"
    assert outcome == (
        b"short\n"
        + (b"y" * LINE_LIMIT_BYTES + b" " + cut % 5)
        + b"\nend\n"
        + (b"z" * LINE_LIMIT_BYTES + b" " + cut % LINE_LIMIT_BYTES)
    )


def test_a_carriage_return_ends_a_line(tmp_path: Path) -> None:
    text = b"\r".join(b"%d %%" % (n % 100) for n in range(1_500_000))
    assert len(text) > 4 * LINE_LIMIT_BYTES
    chunks = [text[i : i + READ_BYTES] for i in range(0, len(text), READ_BYTES)]
    assert written(tmp_path, chunks) == text


def test_a_long_line_that_a_carriage_return_ends(tmp_path: Path) -> None:
    text = b"a\r" + b"y" * (LINE_LIMIT_BYTES + 5) + b"\rnext\n"
    chunks = [text[i : i + READ_BYTES] for i in range(0, len(text), READ_BYTES)]
    assert written(tmp_path, chunks) == (
        b"a\r" + b"y" * LINE_LIMIT_BYTES + b" [boxsched: 5 bytes of this line were cut]\rnext\n"
    )


def test_a_note_is_written_after_the_limit_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    log = BoundedLog(descriptor, 3)
    log.take(b"abcdefgh")
    log.note("stopped by admin")
    log.finish()
    os.close(descriptor)
    assert path.read_bytes().splitlines() == [
        b"abc",
        b"[boxsched: stopped by admin]",
        b"[boxsched: the log's limit of 3 bytes is reached: 2 bytes were cut here]",
        b"fgh",
    ]


def test_a_line_of_exactly_the_limit_is_complete(tmp_path: Path) -> None:
    text = b"y" * LINE_LIMIT_BYTES + b"\n"
    chunks = [text[i : i + READ_BYTES] for i in range(0, len(text), READ_BYTES)]
    assert written(tmp_path, chunks) == text


def test_the_mark_starts_its_own_line(tmp_path: Path) -> None:
    assert written(tmp_path, [b"ab\ncdefgh"], limit=3).splitlines()[1:] == [
        b"[boxsched: the log's limit of 3 bytes is reached: 3 bytes were cut here]",
        b"fgh",
    ]


@pytest.mark.parametrize("size", [MIB, MIB + 1, 2 * MIB - 1, 2 * MIB])
def test_a_log_is_whole_if_its_end_reaches_its_beginning(tmp_path: Path, size: int) -> None:
    text = (b"%d\n" % size) * (size // 4)
    text = text[:size]
    chunks = [text[i : i + READ_BYTES] for i in range(0, len(text), READ_BYTES)]
    assert written(tmp_path, chunks, limit=MIB) == text


def test_the_end_begins_with_a_line(tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % n for n in range(1_000))
    log = written(tmp_path, [text[i : i + 100] for i in range(0, len(text), 100)], limit=1_000)
    head, _, end = log.partition(b"[boxsched: the log's limit of 1000 bytes is reached: ")
    assert head == text[:1_000] + b"\n"
    cut, _, end = end.partition(b" bytes were cut here]\n")
    assert text.endswith(end) and end.startswith(b"line ") and 990 < len(end) <= 1_000
    assert int(cut) == len(text) - 1_000 - len(end)

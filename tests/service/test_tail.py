"""A log that is followed as text: over several attempts, and in the middle of a character."""

import pytest

from boxsched.api.resources import logs
from boxsched.api.resources.logs import LogTail
from boxsched.model import JobId
from tests.service.running_service import RunningService

JOB = JobId(1)


async def write(service: RunningService, attempt: int, *parts: bytes) -> None:
    offset = await service.node.store.log_end(JOB, attempt)
    for part in parts:
        await service.node.store.append_log([(JOB, attempt, offset, part)])
        offset += len(part)


async def test_new_output_is_read_once_in_whole_characters(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project()
    await boxless_service.build()
    tail = LogTail(boxless_service.node, JOB, 1)
    assert await tail.read() == b""
    await write(boxless_service, 1, "aü".encode()[:2])
    assert await tail.read() == b"a"
    assert await tail.read() == b"", "half a character"
    await write(boxless_service, 1, "ü".encode()[1:] + b"b")
    assert await tail.read() == "üb".encode()
    assert (await tail.read(), tail.end()) == (b"", b"")


async def test_an_incomplete_character_does_not_hide_the_text_after_it(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "CHUNK_BYTES", 1)
    await boxless_service.project()
    await boxless_service.build()
    await write(boxless_service, 1, "€x".encode())
    tail = LogTail(boxless_service.node, JOB, 1)
    assert [await tail.read() for _ in range(3)] == ["€".encode(), b"x", b""]


async def test_an_attempt_continues_and_a_later_one_starts_after_a_line(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project()
    await boxless_service.build()
    await write(boxless_service, 1, b"one\n" + "ü".encode()[:1])
    await write(boxless_service, 2, b"two")
    tail = LogTail(boxless_service.node, JOB, 1)
    assert await tail.read() == b"one\n"
    assert tail.turn_to(1) == b""
    assert await tail.read() == b"", "it goes on where it was"
    assert tail.turn_to(2) == "\ufffd\n--- attempt 2 ---\n".encode()
    assert await tail.read() == b"two"
    assert tail.turn_to(2) == b""
    assert (await tail.read(), tail.end()) == (b"", b"")


async def test_an_attempt_that_its_worker_got_back_goes_on_where_it_was_left(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project()
    await boxless_service.build()
    await write(boxless_service, 1, b"one\n")
    tail = LogTail(boxless_service.node, JOB, 1)
    assert await tail.read() == b"one\n"
    assert tail.turn_to(2) == b"\n--- attempt 2 ---\n"
    await write(boxless_service, 1, b"more\n")
    assert tail.turn_to(1) == b"\n--- attempt 1 ---\n"
    assert await tail.read() == b"more\n"


async def test_before_the_first_attempt_there_is_no_lease_token(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project()
    await boxless_service.build()
    await write(boxless_service, 1, b"one")
    tail = LogTail(boxless_service.node, JOB, 0)
    assert await tail.read() == b""
    assert tail.turn_to(1) == b""
    assert await tail.read() == b"one"

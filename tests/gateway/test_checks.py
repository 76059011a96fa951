"""A worker asks whether it would be accepted; and what the log says of absent workers."""

from typing import Any

import attrs
import msgspec
import pytest

from boxsched.protocol import wire
from tests.gateway.harness import GatewayHarness


async def check(
    harness: GatewayHarness, name: str, **changes: Any
) -> wire.WouldAccept | wire.Refused:
    """Return the answer to the check of a worker."""
    asking = await harness.dial()
    await asking.say(wire.Check(wire.VERSION, hello_of(name, **changes)))
    answer = wire.from_node.decode(await asking.socket.receive_str())
    assert isinstance(answer, wire.WouldAccept | wire.Refused)
    await asking.closed()
    return answer


def hello_of(name: str, **changes: Any) -> wire.Hello:
    given = (wire.VERSION, f"own {len(name)} {name[:9]!a}", name, ("default",), "", "")
    return msgspec.structs.replace(wire.Hello(*given), **changes)


async def test_a_check_registers_no_worker_and_takes_no_token(harness: GatewayHarness) -> None:
    harness.token = attrs.evolve(harness.token, max_workers=1, bound=True)
    await harness.store.put_token(harness.token)
    assert await check(harness, "thief") == wire.WouldAccept()
    assert await check(harness, "w") == wire.WouldAccept()
    assert not await harness.store.workers() and not harness.asked
    mine = await harness.worker("w")
    before = await harness.store.workers()
    assert await check(harness, "w") == wire.WouldAccept()
    assert await harness.store.workers() == before
    await mine.beat()  # its connection is still the newest


async def test_a_check_is_refused_as_the_start_would_be(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.token = attrs.evolve(harness.token, max_workers=1, bound=True)
    await harness.store.put_token(harness.token)
    mine = await harness.worker("w", start="one")
    asked = len(harness.asked)
    codes = {
        "token_taken": await check(harness, "thief"),
        "conflict": await check(harness, "w", identity="another"),
        "in_use": await check(harness, "w", start="two"),
        "invalid": await check(harness, "in-process"),
    }
    for code, answer in codes.items():
        assert isinstance(answer, wire.Refused) and answer.code == code
    await mine.beat()
    assert len(harness.asked) == asked, "the history does not show checks"
    assert not [one for one in caplog.records if "was refused" in one.getMessage()]


# --- The log ----------------------------------------------------------------------------------


async def test_the_log_says_once_that_a_worker_was_refused_or_has_gone(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    mine = await harness.worker("w")
    thief = await harness.dial()
    await thief.hello("w", identity="another")
    await thief.next(wire.Refused)
    await thief.closed()
    await mine.socket.close()
    await harness.unsteady.until(harness.unsteady.done, "disconnect_workers")
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warned == [
        "a worker at 127.0.0.1 was refused: another worker has the name 'w': use another name",
        f"worker w ({mine.id}) at 127.0.0.1: it has disconnected",
    ]

"""Tunnels over long polling: messages, limits and the end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSMsgType

from boxsched import tunnelling
from boxsched.errors import NotFound, TooMany
from boxsched.gateway import long_polls, polled_tunnels
from boxsched.gateway.dialling import Dialling, _Dialled
from boxsched.gateway.figures import Times
from boxsched.gateway.long_polls import Elsewhere, Ended, new_id
from boxsched.gateway.polled_tunnels import WINDOW_BYTES, PolledTunnel

TIMES = Times(hang_up=0.01)


@pytest.fixture
async def tunnel(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PolledTunnel]:
    monkeypatch.setattr(long_polls, "HOLD_SECONDS", 0.01)
    made = PolledTunnel("192.0.2.7", "token-1", TIMES)
    yield made
    made.release()


def test_bodies_have_any_messages() -> None:
    for messages in ([], [b""], [b"a\n", b"", b"\x00" * 70_000]):
        assert tunnelling.unpacked(tunnelling.packed(messages)) == messages
    whole = tunnelling.packed([b"abc"])
    for end in range(1, len(whole)):
        with pytest.raises(ValueError, match="cut off"):
            tunnelling.unpacked(whole[:end])


async def test_what_was_sent_before_the_end_arrives(tunnel: PolledTunnel) -> None:
    await tunnel.line.put(1, [b"a", b"b"])
    tunnel.line.lose()  # the worker has closed it
    said = [await tunnel.receive() for _ in range(3)]
    assert [one.data for one in said[:2]] == [b"a", b"b"]
    assert said[2].type is WSMsgType.CLOSE
    assert await tunnelling.received(tunnel) is None


async def test_what_the_client_sent_before_its_end_is_fetched(tunnel: PolledTunnel) -> None:
    await tunnel.send_bytes(b"last")
    await tunnel.close()
    assert await tunnel.line.take(0) == [b"last"]
    with pytest.raises(Ended):
        await tunnel.line.take(1)


async def test_the_faster_side_waits_for_the_slower_one(tunnel: PolledTunnel) -> None:
    piece = bytes(WINDOW_BYTES // 2)
    await tunnel.line.put(1, [piece])
    await tunnel.line.put(2, [piece])
    with pytest.raises(TooMany):
        await tunnel.line.put(3, [piece])
    await tunnel.send_bytes(piece)
    await tunnel.send_bytes(piece)
    sending = asyncio.create_task(tunnel.send_bytes(piece))
    assert len(await tunnel.line.take(0)) >= 2
    assert not sending.done()
    await tunnel.line.take(1)
    await sending


async def test_a_worker_that_asks_for_nothing_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polled_tunnels, "SILENT_SECONDS", 0.01)
    silent = PolledTunnel("192.0.2.7", "token-1", TIMES)
    with pytest.raises(tunnelling.Broken):
        await tunnelling.received(silent)
    with pytest.raises(ConnectionResetError):
        await silent.send_bytes(b"x")
    silent.release()


async def test_only_its_worker_opens_a_tunnel_and_only_once() -> None:
    dialling = Dialling(7, TIMES)
    arrived = asyncio.get_running_loop().create_future()
    dialling._tunnels["7.name"] = _Dialled("token-1", arrived)
    with pytest.raises(Elsewhere):
        dialling.polled(new_id("8"), "token-1", "")
    for name, token in (("7.other", "token-1"), ("7.name", "token-2"), ("8.no-id", "token-1")):
        with pytest.raises(NotFound):
            dialling.polled(name, token, "")
    line = dialling.polled("7.name", "token-1", "")
    assert dialling.polled("7.name", "token-1", "") is line
    opened = await arrived
    assert isinstance(opened, PolledTunnel) and opened.line is line
    opened.release()
    taken = asyncio.get_running_loop().create_future()
    taken.set_result(opened)
    dialling._tunnels["7.name"] = _Dialled("token-1", taken)
    with pytest.raises(NotFound):
        dialling.polled("7.name", "token-1", "")

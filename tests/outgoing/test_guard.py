"""No request reaches an address of our own network unless the operator allowed the host."""

import asyncio
import ipaddress
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientError, web
from yarl import URL

from boxsched.errors import Invalid
from boxsched.outgoing.guard import (
    CONNECTIONS,
    RESOLVING_AT_ONCE,
    AddressGuard,
    AddressRefused,
    address_of,
    canonical_host,
    check_host,
    is_public,
)

REFUSED = (
    "http://127.0.0.1/", "http://127.1/", "http://127.255.255.254/", "http://2130706433/",
    "http://0x7f000001/", "http://0177.0.0.1/", "http://017700000001/", "http://0x7f.1/",
    "http://localhost/", "http://LOCALHOST./", "http://0.0.0.0/", "http://0/", "http://0.1.2.3/",
    "http://10.0.0.1/", "http://10.255.255.255/", "http://172.16.0.1/", "http://172.31.255.255/",
    "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data/", "http://2852039166/",
    "http://100.64.0.1/", "http://100.100.100.200/", "http://168.63.129.16/",
    "http://192.0.0.192/", "http://192.0.2.1/", "http://198.18.0.1/", "http://203.0.113.9/",
    "http://224.0.0.1/", "http://239.255.255.255/", "http://240.0.0.1/",
    "http://255.255.255.255/", "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/", "http://[::ffff:10.0.0.1]/", "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::1]/", "http://[2002:7f00:1::]/",
    "http://[2002:a00:1::]/", "http://[2001:db8::1]/", "http://[2001::1]/", "http://[fc00::1]/",
    "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[fec0::1]/", "http://[ff02::1]/",
)  # fmt: skip
# The client itself refuses these before it connects, or does not find the name.
UNUSUAL = (
    "http://127.1/", "http://2130706433/", "http://0177.0.0.1/", "http://017700000001/",
    "http://0/", "http://2852039166/", "http://LOCALHOST./",
)  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
async def test_an_address_of_our_own_network_is_refused(url: str) -> None:
    guard = AddressGuard(())
    try:
        target = URL(url)
        with pytest.raises(AddressRefused if url not in UNUSUAL else (AddressRefused, ClientError)):
            await guard.session(target).post(target, allow_redirects=False)
    finally:
        await guard.close()


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("93.184.216.34", True),
        ("1.1.1.1", True),
        ("100.63.255.255", True),
        ("100.64.0.0", False),
        ("168.63.129.15", True),
        ("168.63.129.16", False),
        ("192.88.99.1", False),
        ("2606:4700::1111", True),
        ("::ffff:93.184.216.34", True),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::5db8:d822", True),  # NAT64 of 93.184.216.34
        ("64:ff9b::a00:1", False),
        ("64:ff9b:0:0:0:1::1", False),
        ("2002:5db8:d822::1", True),  # 6to4 of the same
        ("2002:a00:1::1", False),
        ("::5db8:d822", False),
        ("5f00::1", False),
        ("3fff::1", False),
        ("100::1", False),
        ("ff0e::1", False),
        ("::", False),
    ],
)
def test_public_addresses_are_recognized(text: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(text)) is public


async def test_an_address_with_a_zone_is_judged_without_it() -> None:
    def local(host: str, *rest: Any) -> list[tuple[Any, ...]]:
        address = ("fe80::1%lo", 80, 0, 1)
        return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

    guard = AddressGuard((), local)
    url = URL("http://zone.example/")
    with pytest.raises(AddressRefused):
        await guard.session(url).post(url)
    await guard.close()


async def test_waiting_look_ups_do_not_start_after_the_end() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    hosts: list[str] = []

    def hanging(host: str, *rest: Any) -> list[tuple[Any, ...]]:
        hosts.append(host)
        begun.release()
        assert go_on.wait(30)
        raise socket.gaierror("no such name")

    guard = AddressGuard((), hanging)
    urls = [URL(f"http://h{n}.example/") for n in range(RESOLVING_AT_ONCE + 1)]
    tasks = [asyncio.ensure_future(guard.session(url).post(url)) for url in urls]
    for _ in range(RESOLVING_AT_ONCE):
        assert await asyncio.to_thread(begun.acquire, timeout=30)
    await guard.close()
    go_on.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(guard._resolver._threads.shutdown)
    assert len(hosts) == RESOLVING_AT_ONCE


class Receiver:
    """Gives the configured answers, and counts them."""

    def __init__(self) -> None:
        self.seen = 0

    async def start(self) -> int:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        server: Any = site._server
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _answer(self, request: web.Request) -> web.Response:
        self.seen += 1
        return web.Response(text="ok")

    async def stop(self) -> None:
        await self._runner.cleanup()


async def test_a_host_that_the_operator_allowed_is_reached() -> None:
    receiver = Receiver()
    port = await receiver.start()
    guard = AddressGuard(("127.0.0.1",))
    url = URL(f"http://127.0.0.1:{port}/")
    async with guard.session(url).post(url) as answer:
        assert answer.status == 200
    other = URL(f"http://localhost:{port}/")
    with pytest.raises(AddressRefused):  # only the host of that name is allowed
        await guard.session(other).post(other)
    await guard.close()
    await receiver.stop()


async def test_a_name_that_changes_its_address_is_judged_by_the_address_connected_to() -> None:
    """The first look-up gives a public address, every later one our own."""
    receiver = Receiver()
    port = await receiver.start()
    answers: Iterator[str] = iter(["93.184.216.34"] + ["127.0.0.1"] * 9)

    def lookup(host: str, *rest: Any) -> list[tuple[Any, ...]]:
        address = (next(answers), port)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

    guard = AddressGuard((), lookup)
    assert lookup("rebinding.example")[0][4][0] == "93.184.216.34"
    url = URL(f"http://rebinding.example:{port}/")
    with pytest.raises(AddressRefused):
        await guard.session(url).post(url)
    assert receiver.seen == 0
    await guard.close()
    await receiver.stop()


async def test_a_name_that_hangs_keeps_no_other_name_waiting() -> None:
    receiver = Receiver()
    port = await receiver.start()
    over, begun = threading.Event(), threading.Event()
    asked: list[str] = []

    def lookup(host: str, *rest: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        begun.set()
        if host.startswith("hangs"):
            over.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    guard = AddressGuard(("hangs.example", "answers.example"), lookup)
    slow, quick = (URL(f"http://{name}.example:{port}/") for name in ("hangs", "answers"))
    waiting = [asyncio.create_task(_status(guard, slow)) for _ in range(CONNECTIONS - 1)]
    try:
        await asyncio.to_thread(begun.wait)
        assert await _status(guard, quick) == 200
        assert asked == ["hangs.example", "answers.example"], "they share one look-up"
        waiting[0].cancel()
        over.set()
        assert await asyncio.gather(*waiting[1:]) == [200] * len(waiting[1:])
    finally:
        over.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        await guard.close()
        await receiver.stop()


async def _status(guard: AddressGuard, url: URL) -> int:
    async with guard.session(url).post(url) as answer:
        return answer.status


async def test_a_proxy_from_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    port = await receiver.start()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    guard = AddressGuard(())

    def nowhere(*_: Any) -> list[tuple[Any, ...]]:
        raise socket.gaierror("no such name")

    guard = AddressGuard((), nowhere)
    url = URL("http://nowhere.example/")
    with pytest.raises((ClientError, OSError, asyncio.TimeoutError)):
        await guard.session(url).post(url)
    assert receiver.seen == 0
    await guard.close()
    await receiver.stop()


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Hooks.Example.", "hooks.example"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("2130706433", "127.0.0.1"),
        ("0x7F.1.", "127.0.0.1"),
        ("face.b00c", "face.b00c"),
        ("1.2.3.4 x", "1.2.3.4 x"),
    ],
)
def test_hosts_are_compared_in_one_form(text: str, host: str) -> None:
    assert canonical_host(text) == host


@pytest.mark.parametrize("url", REFUSED)
def test_a_private_address_is_refused_in_any_notation_unless_it_is_allowed(url: str) -> None:
    host = URL(url).host or ""
    address = address_of(host)
    if address is None:
        assert "localhost" in url.lower(), "names are looked up when a request is sent"
        check_host(host, (), "f")
        return
    with pytest.raises(Invalid, match=re.escape(f"--allow-outgoing {address}")) as refused:
        check_host(host, (), "f")
    assert refused.value.field == "f"
    if address.version == 6 or host == str(address):
        check_host(host, (host,), "f")
    else:  # the client does not send requests to such a notation
        with pytest.raises(Invalid, match=re.escape(f"write its host {host} as {address}")):
            check_host(host, (host,), "f")


@pytest.mark.parametrize("host", ["8.8.2056", "134744072", "010.8.8.8", "8.8.8.8."])
def test_a_public_address_has_one_notation(host: str) -> None:
    with pytest.raises(Invalid, match=r"^write its host"):
        check_host(host, (), "f")


@pytest.mark.parametrize("host", ["256.1.1.1", "1.2.3.4.5", "4294967296", "08.8.8.8"])
def test_what_is_neither_a_name_nor_an_address_is_refused(host: str) -> None:
    with pytest.raises(Invalid, match="neither a name nor a valid address"):
        check_host(host, (), "f")


@pytest.mark.parametrize("host", ["hooks.example", "8.8.8.8", "2606:4700::1111", "0x.example", "b"])
def test_names_and_public_addresses_are_accepted(host: str) -> None:
    check_host(host, (), "f")

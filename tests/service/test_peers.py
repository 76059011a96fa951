"""The address of a request's sender: a proxy's header counts only if the proxy is ours."""

import ipaddress
from pathlib import Path

import pytest
from click.testing import CliRunner
from multidict import CIMultiDict

from boxsched.api.http.peers import Peers
from boxsched.cli.serve import serve
from boxsched.protocol import wire
from tests.service.running_service import API, RunningService

OURS = tuple(ipaddress.ip_network(one) for one in ("10.0.0.0/8", "127.0.0.1", "fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "origin"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        # the client writes the first part itself
        ("10.0.0.1", ["198.51.100.9, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["198.51.100.9", "192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("203.0.113.5", ["192.0.2.7"], "203.0.113.5"),
        ("10.0.0.1", ["192.0.2.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("fd00::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("", ["192.0.2.7"], ""),  # a socket of this machine
    ],
)
def test_the_last_address_that_is_not_ours_is_used(
    peer: str, forwarded: list[str], origin: str
) -> None:
    assert Peers(OURS).origin(peer, forwarded) == origin


@pytest.mark.parametrize(("trusted", "address"), [(OURS, "192.0.2.7"), ((), "127.0.0.1")])
async def test_a_worker_is_shown_with_its_address(
    tmp_path: Path, trusted: tuple[ipaddress.IPv4Network, ...], address: str
) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0, trusted_proxies=trusted) as service:
        made = await service.call("POST", f"{API}/tokens", {"role": "worker", "name": "w"})
        headers = {"Authorization": f"Bearer {made.json['token']}", "X-Forwarded-For": "192.0.2.7"}
        async with service.client.ws_connect(service.url + wire.PATH, headers=headers) as worker:
            hello = wire.Hello(wire.VERSION, "w1", "w1", ("default",), "", "boot")
            await worker.send_str(wire.encode(hello).decode())
            await worker.receive(timeout=20)
            (shown,) = (await service.get("/workers"))["workers"]
            assert shown["address"] == address


@pytest.mark.parametrize("trusted", [OURS, ()])
@pytest.mark.parametrize(
    ("said", "secure"),
    [
        (["https"], True),
        (["http"], False),
        (["HTTPS"], True),
        (["https, http"], False),  # our nearest proxy adds the last part
        (["http", "https"], True),
        (["https", "http"], False),
    ],
)
async def test_our_proxy_says_that_the_request_used_tls(
    tmp_path: Path, trusted: tuple[ipaddress.IPv4Network, ...], said: list[str], secure: bool
) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0, trusted_proxies=trusted) as service:
        headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            *(("X-Forwarded-Proto", line) for line in said),
        ]
        answer = await service.call(
            "POST", "/sign-in", data=f"token={service.token}", headers=CIMultiDict(headers)
        )
        assert answer.status == 303
        believed = secure and bool(trusted)
        assert ("Secure" in answer.headers["Set-Cookie"]) is believed
        assert ("Strict-Transport-Security" in answer.headers) is believed


@pytest.mark.parametrize("trusted", [OURS, ()])
@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Port", "Forwarded", "Via"]
)
async def test_a_request_through_a_proxy_does_not_come_from_this_machine(
    tmp_path: Path, trusted: tuple[ipaddress.IPv4Network, ...], header: str
) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0, trusted_proxies=trusted) as service:
        assert (await service.call("GET", "/metrics", token=None)).status == 200
        answer = await service.call("GET", "/metrics", token=None, headers={header: "127.0.0.1"})
        assert answer.status == 401


def test_an_invalid_network_is_refused() -> None:
    done = CliRunner().invoke(serve, ["--trusted-proxy", "10.0.0.1/8"])
    assert done.exit_code == 2 and "host bits" in done.output

"""Discovery of nodes: URLs, addresses of names, SRV records, and which node is tried next."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from yarl import URL

from boxsched.worker.remote import discovery as discovering
from boxsched.worker.remote.discovery import (
    Choice,
    Discovery,
    NodeAddress,
    NotFound,
    Service,
    SystemNames,
    parse_source,
)
from tests.worker.harness import eventually
from tests.worker.nodes_and_workers import NodesAndWorkers


class Zone(asyncio.DatagramProtocol):
    """A DNS server: ``records`` maps names to (type, text) pairs; it answers nothing while away."""

    def __init__(self, records: dict[str, list[tuple[str, str]]]) -> None:
        self.records = records
        self.away = False
        self.asked: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: object) -> None:
        question = dns.message.from_wire(data)
        name, kind = question.question[0].name, question.question[0].rdtype
        text = name.to_text(omit_final_dot=True)
        self.asked[text] += 1
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        found = [r for k, r in self.records.get(text, []) if k == dns.rdatatype.to_text(kind)]
        if self.away:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif found:
            answer.answer.append(dns.rrset.from_text_list(name, 60, "IN", kind, found))
        elif text not in self.records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), address)  # type: ignore[arg-type]

    def names(self) -> SystemNames:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self.transport.get_extra_info("sockname")[1]
        return SystemNames(resolver)


@pytest.fixture
async def zone() -> AsyncIterator[Zone]:
    loop = asyncio.get_running_loop()
    transport, zone = await loop.create_datagram_endpoint(
        lambda: Zone({}), local_addr=("127.0.0.1", 0)
    )
    yield zone
    transport.close()


class FakeDns:
    """A name server with fixed names."""

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = hosts

    async def addresses(self, host: str) -> Sequence[str]:
        if host not in self.hosts:
            raise NotFound("not written down")
        return self.hosts[host]

    async def services(self, name: str) -> Sequence[tuple[Service, Sequence[str]]]:
        raise NotFound("no services are written down")


def texts(discovery: Discovery) -> set[str]:
    return {str(node) for node in discovery.nodes}


# --- URLs -----------------------------------------------------------------------------------


def test_valid_urls_are_accepted() -> None:
    assert str(parse_source("https://ci.example.org:8443/boxsched/")) == (
        "https://ci.example.org:8443/boxsched"
    )
    assert parse_source("srv+http://_boxsched._tcp.example.org").srv


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ci.example.org",
        "ftp://ci.example.org",
        "http://",
        "http://user:word@ci.example.org",
        "http://ci.example.org/?token=x",
        "http://ci.example.org:99999",
        "srv+http://_boxsched._tcp.example.org:80",
        "srv+ftp://_boxsched._tcp.example.org",
    ],
)
def test_urls_that_are_not_of_a_node_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_source(text)


async def test_a_literal_address_needs_no_dns() -> None:
    sources = map(parse_source, ["http://10.0.0.1:8080", "https://[2001:db8::1]"])
    discovery = Discovery(sources, FakeDns())
    await discovery.refresh()
    assert texts(discovery) == {"http://10.0.0.1:8080", "https://[2001:db8::1]"}


async def test_each_address_of_a_name_is_a_node() -> None:
    book = FakeDns(nodes=["10.0.0.1", "10.0.0.2", "2001:db8::1"], other=["10.0.0.3"])
    discovery = Discovery(map(parse_source, ["http://nodes:80", "http://other:81"]), book)
    await discovery.refresh()
    assert len(discovery.nodes) == 4
    book.hosts["nodes"] = ["10.0.0.9"]
    del book.hosts["other"]  # no answer: the last one stays
    await discovery.refresh()
    assert {node.ip for node in discovery.nodes} == {"10.0.0.9", "10.0.0.3"}


async def test_names_are_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "ASK_AGAIN_SECONDS", 0.001)
    book = FakeDns()
    discovery = Discovery([parse_source("http://nodes")], book)
    asking = asyncio.create_task(discovery.run())
    book.hosts["nodes"] = ["10.0.0.1"]
    async with asyncio.timeout(30):
        while not discovery.nodes:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.001)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_the_hosts_file_is_read() -> None:
    assert "127.0.0.1" in await SystemNames().addresses("localhost")
    with pytest.raises(NotFound):
        await SystemNames().addresses("no such name")


# --- SRV ------------------------------------------------------------------------------------

SRV = "_boxsched._tcp.example.org"


async def test_srv_records_name_nodes(zone: Zone, caplog: pytest.LogCaptureFixture) -> None:
    zone.records = {
        SRV: [("SRV", "0 10 8080 a.example.org."), ("SRV", "5 1 8081 b.example.org.")],
        "a.example.org": [("A", "10.0.0.1"), ("AAAA", "2001:db8::1")],
        "b.example.org": [("A", "10.0.0.2")],
    }
    discovery = Discovery([parse_source(f"srv+https://{SRV}")], zone.names())
    await discovery.refresh()
    found = set(discovery.nodes)
    a, b = URL("https://a.example.org:8080"), URL("https://b.example.org:8081")
    assert found == {
        NodeAddress(a, "10.0.0.1", 0, 10),
        NodeAddress(a, "2001:db8::1", 0, 10),
        NodeAddress(b, "10.0.0.2", 5, 1),
    }
    zone.away = True
    for _ in range(3):
        await discovery.refresh()
    assert set(discovery.nodes) == found
    assert caplog.text.count("no SRV records") == 1
    zone.away = False
    zone.records[SRV].pop()
    await discovery.refresh()
    assert {node.url for node in discovery.nodes} == {a}


@pytest.mark.parametrize(
    "records", [{}, {SRV: []}, {SRV: [("SRV", "0 0 0 .")]}, {SRV: [("SRV", "0 0 1 gone.org.")]}]
)
async def test_missing_srv_records_are_reported(
    zone: Zone, records: dict[str, list[tuple[str, str]]]
) -> None:
    zone.records = records
    with pytest.raises(NotFound):
        await zone.names().services(SRV)


async def test_a_worker_finds_its_node_by_srv(cluster: NodesAndWorkers, zone: Zone) -> None:
    node = await cluster.node()
    zone.records = {
        SRV: [("SRV", f"0 0 {node.port} node.example.org.")],
        "node.example.org": [("A", "127.0.0.1")],
    }
    worker = cluster.worker(f"srv+http://{SRV}", names=zone.names(), box_driver="none")
    connection = await node.connected()
    assert connection.request.headers["Host"] == f"node.example.org:{node.port}"
    await eventually(lambda: worker.first)
    assert str(worker.first[0]) == f"http://node.example.org:{node.port} (127.0.0.1)"


async def test_a_worker_waits_for_a_name(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    book = FakeDns()
    cluster.worker(f"http://nodes:{node.port}", names=book, box_driver="none")
    await asyncio.sleep(0)
    book.hosts["nodes"] = ["127.0.0.1"]
    await node.connected()


# --- Which node is tried next --------------------------------------------------------------------


def nodes(*weights: int, priority: int = 0) -> list[NodeAddress]:
    return [
        NodeAddress(URL(f"http://10.0.{priority}.{index}"), None, priority, weight)
        for index, weight in enumerate(weights)
    ]


def test_each_node_is_tried_once_a_round_and_the_last_one_not_first() -> None:
    choice, known = Choice(random.Random(1)), nodes(1, 1, 1)
    last = None
    for _ in range(50):
        tried = []
        for _ in range(3 if last is None else 2):
            last = choice.next(known, last)
            tried.append(last)
        assert len(set(tried)) == len(tried)


def test_a_single_node_is_tried_again() -> None:
    choice, known = Choice(random.Random(1)), nodes(1)
    assert [choice.next(known, known[0]) for _ in range(3)] == known * 3


def test_nodes_are_chosen_evenly_and_by_weight() -> None:
    chance = random.Random(1)
    alike = Counter(Choice(chance).next(nodes(1, 1, 1), None) for _ in range(3_000))
    assert all(800 < count < 1_200 for count in alike.values())
    weighed = Counter(Choice(chance).next(nodes(3, 1, 0), None).weight for _ in range(4_000))
    assert 2_700 < weighed[3] < 3_300
    assert weighed[0] < 100


def test_a_lower_priority_value_goes_first() -> None:
    known = [*nodes(9, priority=2), *nodes(1, 1, priority=1)]
    choice = Choice(random.Random(1))
    last = None
    order = []
    for _ in range(3):
        last = choice.next(known, last)
        order.append(last.priority)
    assert order == [1, 1, 2]


def test_a_node_that_is_no_longer_known_is_not_tried() -> None:
    choice, known = Choice(random.Random(1)), nodes(1, 1, 1)
    first = choice.next(known, None)
    left = [node for node in known if node is not first][:1]
    assert choice.next(left, first) == left[0]

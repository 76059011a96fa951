"""Workers check the certificates of nodes, and show their own where a server requires one."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from boxsched.cli import main
from boxsched.worker.remote.link import Lost
from boxsched.worker.remote.tls import BadTlsFile, TlsFiles
from tests.worker.certificates import Authority
from tests.worker.fake_node import TOKEN, FakeNode
from tests.worker.harness import eventually
from tests.worker.nodes_and_workers import NodesAndWorkers


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_node_with_a_certificate_of_the_named_authority_is_trusted(
    cluster: NodesAndWorkers, authority: Authority
) -> None:
    node = await cluster.node(tls=authority.server())
    cluster.worker(node, tls=TlsFiles(ca=authority.ca))
    await node.connected()


async def test_a_node_of_another_authority_is_not(
    cluster: NodesAndWorkers, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    node = await cluster.node(tls=authority.server())
    cluster.worker(node, tls=TlsFiles(ca=Authority(cluster.folder, "stranger").ca))
    await eventually(lambda: "its certificate is not valid" in caplog.text)
    assert not node.hellos


async def test_a_server_may_require_the_workers_certificate(
    cluster: NodesAndWorkers, authority: Authority
) -> None:
    clients = Authority(cluster.folder, "clients")
    node = await cluster.node(tls=authority.server(clients=clients))
    certificate, key = clients.issue("worker")
    cluster.worker(node, tls=TlsFiles(authority.ca, certificate, key))
    await node.connected()


async def test_without_that_certificate_it_is_refused(
    cluster: NodesAndWorkers, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    node = await cluster.node(tls=authority.server(clients=Authority(cluster.folder, "clients")))
    cluster.worker(node, tls=TlsFiles(authority.ca))
    await eventually(lambda: "cannot connect to" in caplog.text)
    assert not node.hellos


async def test_a_renewed_authority_is_read_for_the_next_connection(
    cluster: NodesAndWorkers, authority: Authority
) -> None:
    trusted = cluster.folder / "trusted.pem"
    trusted.write_bytes(Authority(cluster.folder, "stranger").ca.read_bytes())
    node = await cluster.node(tls=authority.server())
    cluster.worker(node, tls=TlsFiles(ca=trusted))
    trusted.write_bytes(authority.ca.read_bytes())
    await node.connected()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ca-file", "missing"), "--ca-file: cannot use missing: No such file"),
        (("--ca-file", "text"), "--ca-file: cannot use text: not a PEM file"),
        (("--client-certificate", "ca.pem"), "--client-certificate: cannot use ca.pem"),
        (
            ("--client-certificate", "one.pem", "--client-key", "two.key"),
            "--client-certificate: cannot use one.pem: the key does not belong to it",
        ),
        (("--client-key", "two.key"), "--client-key: only with --client-certificate"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    authority.ca.rename("ca.pem")
    authority.issue("one")
    authority.issue("two")
    Path("text").write_text("no certificate")
    required = ("--url", "https://127.0.0.1:1", "--token", TOKEN, "--data", "data")
    ended = CliRunner().invoke(main, ["worker", *required, *options])
    assert ended.exit_code == 2
    assert message in ended.stderr


async def test_a_file_that_vanishes_is_tried_again(
    cluster: NodesAndWorkers, authority: Authority
) -> None:
    kept = authority.ca.read_bytes()
    node: FakeNode = await cluster.node(tls=authority.server())
    worker = cluster.worker(node, tls=TlsFiles(ca=authority.ca))
    authority.ca.unlink()
    with pytest.raises(BadTlsFile):
        TlsFiles(ca=authority.ca).context()
    with pytest.raises(Lost):
        worker.remote.tls()
    authority.ca.write_bytes(kept)
    await node.connected()

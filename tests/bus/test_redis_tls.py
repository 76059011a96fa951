"""rediss://: the server of the tests has no TLS, so a proxy before it adds TLS."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bus.recording_nodes import cluster, until, workers
from tests.bus.redis_server import Server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    made = tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
            "subjectAltName=DNS:localhost", "-keyout", str(made), "-out", str(made) + ".crt",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    made.write_text(made.read_text() + Path(f"{made}.crt").read_text())
    return made


@contextlib.asynccontextmanager
async def _proxy(server: Server, certificate: Path) -> AsyncIterator[int]:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()


async def test_the_bus_works_over_tls(server: Server, certificate: Path) -> None:
    async with _proxy(server, certificate) as port:
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}"
        async with cluster(url) as nodes:
            a, b = await nodes.node("a"), await nodes.node("b")
            a.bus.wake(1)
            a.bus.hint("b", workers(2))
            await until(lambda: b.listener.shards == [1] and b.listener.looked == [2])


async def test_an_untrusted_certificate_is_refused(
    server: Server, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        _proxy(server, certificate) as port,
        cluster(f"rediss://localhost:{port}/0") as nodes,
    ):
        a = await nodes.node("a", up=False)
        assert not a.bus.up
        await until(lambda: "certificate" in caplog.text.lower())

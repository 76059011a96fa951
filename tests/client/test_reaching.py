"""The client's message when no boxsched answers names the real cause."""

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess

import pytest
from aiohttp import web
from yarl import URL

from boxsched import errors
from boxsched.client import Client, Unreachable
from boxsched.client.refusals import FOREIGN, refusal
from tests.bus.redis_server import served

URL_OF_A_PROXY = URL("https://ci.example.org")


async def said(url):
    async with Client(url, "t", patience=0) as client:
        with pytest.raises(errors.BoxschedError) as raised:
            await client.projects()
    return raised.value


@contextlib.asynccontextmanager
async def answering(words, secure=None):
    """A server that answers everything with ``words`` and hangs up."""

    async def answer(reader, writer):
        await reader.read(1)
        writer.write(words)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=secure)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_name_without_an_address_is_reported():
    error = await said("http://nosuch.invalid:8080")
    assert isinstance(error, Unreachable)
    assert "name nosuch.invalid" in error.message or "no name server" in error.message
    assert not error.absent


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_port_where_nothing_listens_is_reported(host, unused_tcp_port):
    error = await said(f"http://{host}:{unused_tcp_port}")
    assert "nothing listens there" in error.message
    assert error.absent


async def test_tls_to_a_port_without_tls_is_reported(service):
    error = await said(service.url.replace("http:", "https:") + "/prefix")
    assert error.message.endswith(f"the server does not use TLS: try {service.url}/prefix")


@pytest.fixture
def secure(tmp_path):
    """A server with a self-signed certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=elsewhere", "-days", "2", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_an_invalid_certificate_is_reported(secure):
    async with answering(b"", secure) as port:
        over_tls = await said(f"https://127.0.0.1:{port}")
        without = await said(f"http://127.0.0.1:{port}")
    assert re.search("its certificate is not valid: self.signed certificate", over_tls.message)
    assert "or uses TLS (https://)" in without.message


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"", "the connection was closed without an answer: the server is not boxsched"),
        (b"-ERR unknown command\r\n", "the answer is not HTTP: the server is not boxsched"),
    ],
)
async def test_a_program_with_another_protocol_is_reported(words, why):
    async with answering(words) as port:
        error = await said(f"http://127.0.0.1:{port}")
    assert isinstance(error, Unreachable)
    assert why in error.message
    assert not error.absent


async def test_a_redis_is_reported_as_another_program(tmp_path):
    with served(tmp_path) as redis:
        error = await said(f"http://127.0.0.1:{redis.port}")
    assert "the server is not boxsched" in error.message


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_load_balancer_without_a_node_is_reported(status):
    error = refusal(status, b"<html>Bad Gateway</html>", {}, URL_OF_A_PROXY)
    assert type(error) is errors.StoreAway
    assert error.message == (
        f"a load balancer answers at https://ci.example.org, but none of its nodes ({status})"
    )


@pytest.mark.parametrize("status", [401, 403, 404, 500])
@pytest.mark.parametrize(
    "body", [b"<html>", b'{"error": "none of ours"}', b'{"error": {"code": "\xff"}}', b""]
)
def test_a_refusal_of_another_program_is_reported(status, body):
    error = refusal(status, body, {}, URL_OF_A_PROXY)
    assert error.code == FOREIGN
    assert f"the server at https://ci.example.org is not boxsched ({status})" in error.message


async def test_a_redirection_is_reported(service):
    async def elsewhere(request):
        raise web.HTTPMovedPermanently("https://ci.example.org/\x7f")

    service.part = [elsewhere]
    error = await said(service.url)
    assert f"{service.url} redirects (301) to https://ci.example.org/" in error.message

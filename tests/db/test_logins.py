"""Logins with password and TLS, of services (aiopg) and of commands (psycopg2).

The server is real, and requires the password by SCRAM. The wheel's server has no TLS, so a proxy
adds it.
"""

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import attrs
import pytest

from boxsched.errors import StoreAway
from boxsched.store import open_store
from tests.contract.postgres_server import PostgresServer, execute
from tests.db.conftest import PASSWORD, run
from tests.db.tls_proxy import TlsProxy

_HBA = """
host    all boxsched 127.0.0.1/32 trust
host    all ada      127.0.0.1/32 scram-sha-256
"""


@attrs.frozen
class TlsServer:
    """A server that accepts ada only with TLS and password, and keeps no commit times."""

    proxy: TlsProxy
    authority: Path
    stranger: Path  # another authority's certificate

    @property
    def port(self) -> int:
        return self.proxy.port

    def url(self, more: str = "", password: str | None = PASSWORD, place: str = "") -> str:
        secret = "" if password is None else ":" + quote(password, safe="")
        place = place or f"localhost:{self.port}"
        verified = f"sslmode=verify-full&sslrootcert={self.authority}"
        return f"postgresql://ada{secret}@{place}/ours?{more or verified}"


def _certificate(folder: Path, name: str) -> Path:
    made = folder / f"{name}.crt"
    asked = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout"
        f" {folder / name}.key -out {made} -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(asked.split(), check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def certificates() -> Iterator[tuple[Path, Path]]:
    """The server's own certificate, and one of another authority."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = Path(tempfile.mkdtemp(prefix="boxsched-logins-"))
    try:
        yield _certificate(folder, "own"), _certificate(folder, "stranger")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    """The port of a server that asks ada for her password."""
    folder = Path(tempfile.mkdtemp(prefix="boxsched-logins-"))
    try:
        server = PostgresServer(folder)
        server.create()
        server.write("pg_hba.conf", _HBA)
        server.settings["track_commit_timestamp"] = "off"
        server.start()
        secret = PASSWORD.replace("'", "''")
        admin = server.url("postgres")
        execute(admin, f"CREATE ROLE ada LOGIN PASSWORD '{secret}'")
        execute(admin, "CREATE DATABASE ours OWNER ada TEMPLATE template0 ENCODING 'UTF8'")
        yield server.port
        server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def guarded(certificates: tuple[Path, Path], backend: int) -> AsyncIterator[TlsServer]:
    own, stranger = certificates
    async with TlsProxy(own, backend).listening() as proxy:
        yield TlsServer(proxy, own, stranger)


async def let_in(guarded: TlsServer, url: str, folder: Path) -> None:
    """Log in a service and a command, over TLS."""
    said = await asyncio.to_thread(run, "db", "upgrade", "--database", url)
    assert "prepared: schema" in said.stdout or "nothing to do" in said.stdout
    store = open_store(url, folder)
    await store.open()
    await store.ping()
    await store.close()
    assert len(guarded.proxy.versions) >= 3 and set(guarded.proxy.versions) == {"TLSv1.3"}
    said = await asyncio.to_thread(run, "db", "status", "--database", url, "--json")
    assert json.loads(said.stdout)["rights"]["role"] == "ada"


async def test_a_password_may_be_in_the_url(guarded: TlsServer, tmp_path: Path) -> None:
    await let_in(guarded, guarded.url(), tmp_path)


async def test_a_password_may_be_in_the_environment(
    guarded: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    await let_in(guarded, guarded.url(password=None), tmp_path)


async def test_a_password_may_be_in_a_password_file(
    guarded: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pgpass"
    file.touch(mode=0o600)
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    file.write_text(f"localhost:{guarded.port}:ours:ada:{escaped}\n")
    monkeypatch.setenv("PGPASSFILE", str(file))
    await let_in(guarded, guarded.url(password=None), tmp_path)


async def test_a_server_may_be_given_by_a_service_file(
    guarded: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "services"
    file.write_text(
        f"[ours]\nhost=localhost\nport={guarded.port}\ndbname=ours\nuser=ada\n"
        f"password={PASSWORD}\nsslmode=verify-full\nsslrootcert={guarded.authority}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    await let_in(guarded, "postgresql://?service=ours", tmp_path)


async def test_host_and_port_may_be_in_the_environment(
    guarded: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGHOST": "localhost",
        "PGPORT": str(guarded.port),
        "PGUSER": "ada",
        "PGPASSWORD": PASSWORD,
        "PGDATABASE": "ours",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(guarded.authority),
    }.items():
        monkeypatch.setenv(name, value)
    await let_in(guarded, "postgresql://", tmp_path)
    await let_in(guarded, "postgresql://localhost/", tmp_path)


async def shut_out(url: str, folder: Path) -> str:
    """Return the messages of both, which do not contain the password."""
    said = await asyncio.to_thread(run, "db", "status", "--database", url, status=1)
    with pytest.raises(StoreAway) as caught:
        await open_store(url, folder).open()
    assert PASSWORD not in str(caught.value)
    return said.stderr + str(caught.value)


async def test_a_refused_worker_gets_the_reason(guarded: TlsServer, tmp_path: Path) -> None:
    wrong = await shut_out(guarded.url(password="wrong"), tmp_path)
    assert wrong.count("password authentication failed") == 2
    plain = await shut_out(guarded.url("sslmode=disable"), tmp_path)
    assert plain.count("closed the connection unexpectedly") == 2
    verifying = f"sslmode=verify-full&sslrootcert={guarded.stranger}"
    strange = await shut_out(guarded.url(verifying), tmp_path)
    assert strange.count("certificate verify failed") == 2
    address = f"127.0.0.1:{guarded.port}"
    misnamed = await shut_out(guarded.url(place=address), tmp_path)
    assert misnamed.count("does not match host name") == 2


async def test_check_says_what_it_could_not_check(guarded: TlsServer) -> None:
    await asyncio.to_thread(run, "db", "upgrade", "--database", guarded.url())
    said = await asyncio.to_thread(run, "check", "--database", guarded.url())
    assert said.stdout.startswith("All invariants hold.\nnote: V2")
    assert "track_commit_timestamp is off" in said.stdout

"""Private repositories over HTTPS, as docs/private-repositories.md says: a credential helper for a
job or a machine.
"""

import base64
import functools
import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.service.running_service import API, RunningService, job

USER, PASSWORD = "ci", "a-token"
AUTHORIZED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class PrivateServer(http.server.SimpleHTTPRequestHandler):
    """Serves files to requests that give the password."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == AUTHORIZED:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@attrs.frozen
class Private:
    """``config``: git's settings for it: the helper, and the trusted certificate."""

    url: str
    host: str
    certificate: Path
    credentials: Path

    @property
    def config(self) -> dict[str, str]:
        return {
            "credential.helper": f"store --file={self.credentials}",
            "http.sslCAInfo": str(self.certificate),
        }


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("private")

    def run(*arguments: str) -> None:
        subprocess.run(arguments, cwd=folder, check=True, capture_output=True)

    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    run("git", "init", "-q", "-b", "main", "code")
    (folder / "code" / "which").write_text("private code\n")
    run("git", "-C", "code", "add", "which")
    run("git", "-C", "code", *identity, "commit", "-q", "-m", "first")
    run("git", "clone", "-q", "--bare", "code", "served/web.git")
    run("git", "-C", "served/web.git", "update-server-info")
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-keyout", "tls.key", "-out", "tls.pem", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost",
    )  # fmt: skip
    handler = functools.partial(PrivateServer, directory=str(folder / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    host = f"localhost:{server.server_address[1]}"
    credentials = folder / "git-credentials"
    credentials.touch(0o600)
    credentials.write_text(f"https://{USER}:{PASSWORD}@{host}\n")
    yield Private(f"https://{host}/web.git", host, folder / "tls.pem", credentials)
    server.shutdown()
    thread.join()
    server.server_close()


async def built(
    service: RunningService, private: Private, environment: dict[str, str]
) -> tuple[str, str]:
    """Return (result, log) of a build that shows a file of the repository."""
    show = {**job("show", "cat which"), "environment": environment}
    await service.project("private", repository=private.url, jobs=[show])
    build = await service.build("private", branch="main")
    ended = await service.finished(build["id"])
    log = await service.call("GET", f"{API}/jobs/{build['id']}-1/log")
    return ended["result"], log.body.decode()


async def test_a_helper_in_a_jobs_environment_gives_the_password(
    executing_service: RunningService, private: Private
) -> None:
    settings = {"GIT_CONFIG_COUNT": str(len(private.config))}
    for number, (name, value) in enumerate(private.config.items()):
        settings |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    result, log = await built(executing_service, private, settings)
    assert result == "passed", log
    assert log.endswith("private code\n")
    assert PASSWORD not in log


async def test_a_helper_for_the_whole_machine_gives_the_password(
    executing_service: RunningService, private: Private, tmp_path: Path
) -> None:
    """As ``git config --system`` writes it, but in another file."""
    system = tmp_path / "gitconfig"
    for name, value in private.config.items():
        subprocess.run(["git", "config", "--file", system, name, value], check=True)  # noqa: ASYNC221
    result, log = await built(executing_service, private, {"GIT_CONFIG_SYSTEM": str(system)})
    assert result == "passed", log
    assert log.endswith("private code\n")


async def test_without_a_credential_the_node_does_not_read_the_repository(
    executing_service: RunningService, private: Private
) -> None:
    result, log = await built(
        executing_service,
        private,
        {"GIT_SSL_CAINFO": str(private.certificate), "HOME": "/nonexistent"},
    )
    assert result == "failed"
    assert "could not read Username" in log

"""A real git server over HTTPS that requires a password: ``git http-backend`` behind aiohttp."""

import asyncio
import base64
import contextlib
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import attrs
from aiohttp import web

NAMES = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
IDENTITY = dict.fromkeys(NAMES, "a@example.org")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True, capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **IDENTITY},
    )  # fmt: skip
    return done.stdout.strip()


def repository(folder: Path, **files: str) -> Path:
    """Create a repository with one commit on the branch main; ``__`` in a name stands for a dot."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def certificate(folder: Path) -> Path:
    """A certificate for ``localhost``, with its key in the same file."""
    file = folder / "tls.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", str(file), "-out", str(folder / "only.pem"), "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + (folder / "only.pem").read_text())
    return file


@attrs.define(eq=False)
class GitServer:
    """``authorizations``: the credentials ("user:password") of each request, or None if it had
    none. ``gate``: what an authorized request waits for. ``moved``: where a path is redirected."""

    folder: Path  # repositories below it are served
    certificate: Path
    accepts: Callable[[str, str], bool]  # user, password
    port: int = 0
    authorizations: list[str | None] = attrs.field(factory=list)
    gate: asyncio.Event = attrs.field(factory=asyncio.Event)
    reached: asyncio.Event = attrs.field(factory=asyncio.Event)  # an authorized request is here
    moved: dict[str, str] = attrs.field(factory=dict)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, folder: Path, certificate: Path, accepts: Callable[[str, str], bool]
    ) -> AsyncIterator["GitServer"]:
        server = cls(folder, certificate, accepts)
        server.gate.set()
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{path:.*}", server._serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        server.port = runner.addresses[0][1]
        try:
            yield server
        finally:
            server.gate.set()
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        said = request.headers.get("Authorization", "")
        pair = base64.b64decode(said.removeprefix("Basic ")).decode() if said else None
        self.authorizations.append(pair)
        repository = "/" + request.match_info["path"].partition("/")[0]
        if repository in self.moved:
            raise web.HTTPFound(self.moved[repository] + request.path_qs.removeprefix(repository))
        if pair is None or not self.accepts(*pair.split(":", 1)):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="git"'})
        self.reached.set()
        await self.gate.wait()
        return await self._backend(request)

    async def _backend(self, request: web.Request) -> web.Response:
        environment: Mapping[str, str] = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "somebody",
        }
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
        written, _ = await process.communicate(await request.read())
        head, _, body = written.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0])
        headers.pop("Content-Length", None)
        return web.Response(status=status, headers=headers, body=body)

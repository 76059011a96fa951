"""OpenSSH's own programs, as the clients of sessions."""

import asyncio
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

needs_openssh = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("ssh", "sftp", "scp", "ssh-keygen")),
    reason="OpenSSH's programs are not installed",
)
needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
LIMIT_SECONDS = 60.0


@attrs.frozen
class Ran:
    status: int
    out: bytes
    errors: str


@attrs.frozen
class OpenSsh:
    """A user with a key; ``home`` has their files. ``options``: how a session is reached."""

    home: Path
    options: tuple[str, ...] = ()
    target: str = ""

    @classmethod
    def user(cls, home: Path) -> "OpenSsh":
        home.mkdir(parents=True)
        key = home / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        return cls(home)

    @property
    def public_key(self) -> str:
        return " ".join((self.home / "key.pub").read_text().split()[:2])

    def directly(self, host: str, port: int, host_key: str, user: str = "box") -> "OpenSsh":
        """Return the user for a session at this address, whose host key is pinned."""
        return self._to(host_key, f"{user}@{host}", f"Port={port}")

    def through(self, proxy: str, host_key: str, user: str = "box") -> "OpenSsh":
        """Return the user for a session behind a ProxyCommand."""
        return self._to(host_key, f"{user}@session", f"ProxyCommand={proxy}")

    def _to(self, host_key: str, target: str, *options: str) -> "OpenSsh":
        (self.home / "known_hosts").write_text(f"the-session {host_key}\n")
        return attrs.evolve(self, target=target, options=options)

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return a command line with the options of this user."""
        options = (
            *("HostKeyAlias=the-session", f"UserKnownHostsFile={self.home}/known_hosts"),
            *("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"),
            *("LogLevel=ERROR", f"IdentityFile={self.home}/key", *self.options),
        )
        dashed = [word for option in options for word in ("-o", option)]
        return [program, "-F", "none", *dashed, *arguments]

    async def run(
        self, command: str, *options: str, given: bytes = b"", program: str = "ssh"
    ) -> Ran:
        return await ran(self.command(program, *options, self.target, command), given)

    async def synchronize(self, source: str, target: str) -> Ran:
        """Copy a tree with rsync; a path that begins with ``:`` is in the session."""
        places = [f"{self.target}{at}" if at.startswith(":") else at for at in (source, target)]
        remote_shell = shlex.join(self.command("ssh"))
        return await ran(["rsync", "-aHi", "--delete", "-e", remote_shell, *places])

    async def copy(self, source: str, target: str, *options: str) -> Ran:
        """Copy with scp; a path that begins with ``:`` is in the session."""
        places = [f"{self.target}{at}" if at.startswith(":") else at for at in (source, target)]
        return await ran(self.command("scp", *options, *places))


async def ran(command: Sequence[str], given: bytes = b"") -> Ran:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            out, errors = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return Ran(process.returncode, out, errors.decode(errors="replace"))

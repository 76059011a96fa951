"""A developer who opens an SSH session now and then, runs a command in it, and leaves."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable

import asyncssh
import attrs
from msgspec import UNSET

from boxsched import errors, tunnelling
from boxsched.client import Client, Workload

PROJECT, BRANCH = "web-shop", "main"
USER = "box-once"  # the session ends when its command ends
COMMAND = "echo $BOXSCHED_PROJECT; uname -s; sleep {}"
STAY_SECONDS = (15, 45)  # at random in this range
PAUSE_SECONDS = (5.0, 20.0)
LOOK_SECONDS = 0.5


@attrs.frozen
class Visitor:
    """``say`` gets a line about each visit."""

    client: Client
    chance: random.Random
    say: Callable[[str], None]

    async def run(self) -> None:
        """Visit until cancelled."""
        while True:
            try:
                self.say(await self.visit(self.chance.randint(*STAY_SECONDS)))
            except (errors.BoxschedError, asyncssh.Error, OSError) as error:
                self.say(f"an SSH session was not entered: {error}")
            await asyncio.sleep(self.chance.uniform(*PAUSE_SECONDS))

    async def visit(self, seconds: int) -> str:
        """Open a session, and stay for that long; return a description."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        public = " ".join(key.export_public_key("openssh").decode().split()[:2])
        session = await self.client.session(PROJECT, branch=BRANCH, public_key=public)
        self.say(f"{session.title}: SSH session on {BRANCH}")
        host_key = await self._opened(session)
        if host_key is None:
            return f"{session.title}: ended before anybody entered it"
        async with self.client.ssh_tunnel(session.id) as tunnel:
            ours, theirs = socket.socketpair()
            for end in (ours, theirs):
                end.setblocking(False)
            carrying = asyncio.create_task(tunnelling.join_socket(tunnel, theirs))
            try:
                async with asyncssh.connect(
                    "session",
                    sock=ours,
                    config=None,
                    username=USER,
                    client_keys=[key],
                    agent_path=None,
                    known_hosts=([asyncssh.import_public_key(host_key)], [], []),
                ) as connection:
                    await connection.run(COMMAND.format(seconds))
            finally:
                carrying.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await carrying
        return f"{session.title}: its user has left"

    async def _opened(self, session: Workload) -> str | None:
        """Wait until the session is open; return its host key, None if it has ended."""
        while True:
            now = await self.client.workload(session.id)
            if now.ssh is not UNSET and now.ssh is not None:
                return now.ssh.host_key
            if now.finished:
                return None
            await asyncio.sleep(LOOK_SECONDS)

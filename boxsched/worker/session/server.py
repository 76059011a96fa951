"""The server: it accepts connections until the session ends."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time

import asyncssh

from boxsched.worker.session.connections import Connection, OpenSession
from boxsched.worker.supervisor.containment import hide_memory
from boxsched.worker.supervisor.session import Settings, read_settings

LOGIN_SECONDS = 20.0
MAX_STRANGERS = 10  # connections of a listener that are not authenticated yet
MAX_CONNECTIONS = 20
KEEPALIVE_SECONDS, KEEPALIVES = 30.0, 3  # unanswered, after which a connection counts as dead
ACCEPT_AGAIN_SECONDS = 1.0  # after an error, such as no free descriptor
CLOSE_SECONDS = 1.0
ENCRYPTION = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
]


def main(settings: int) -> None:
    hide_memory()  # the host key is in it
    asyncssh.set_log_level("CRITICAL")
    sys.exit(asyncio.run(serve(read_settings(settings))))


async def serve(settings: Settings) -> int:
    """Serve the session to its end; return the exit status."""
    session = OpenSession(settings, _say)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, session.end, "it is stopped")
    key = asyncssh.generate_private_key("ssh-ed25519")
    options = await _options(key, settings)
    listeners = [socket.socket(fileno=number) for number in settings.listeners]
    for listener in listeners:
        listener.setblocking(False)
        os.set_inheritable(listener.fileno(), False)
    works = [_accept(listener, session, options) for listener in listeners]
    tasks = [asyncio.create_task(work) for work in (*works, _warn(session))]
    try:
        os.write(settings.announce, key.export_public_key("openssh"))  # short, so at once
        os.close(settings.announce)
        session.say("the session is open")
        session.end(await _ended(session))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _close(session)
        for listener in listeners:
            listener.close()
    session.say(f"the session ends: {session.ended}")
    return 0


async def _options(key: asyncssh.SSHKey, settings: Settings) -> asyncssh.SSHServerConnectionOptions:
    options: asyncssh.SSHServerConnectionOptions = (
        await asyncssh.SSHServerConnectionOptions.construct(
            server_host_keys=[key],
            encoding=None,
            line_editor=False,
            agent_forwarding=settings.forwarding,
            x11_forwarding=settings.forwarding,
            encryption_algs=ENCRYPTION,
            compression_algs=["none"],
            public_key_auth=True,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            login_timeout=LOGIN_SECONDS,
            keepalive_interval=KEEPALIVE_SECONDS,
            keepalive_count_max=KEEPALIVES,
            server_version="boxsched",
        )
    )
    return options


async def _ended(session: OpenSession) -> str:
    """Wait until the session ends by itself or is ended; return why."""
    settings = session.settings
    while session.ended is None:
        session.changed.clear()
        wait = settings.linger_seconds if session.seen else settings.wait_seconds
        try:
            async with asyncio.timeout(None if session.connections else wait):
                await session.changed.wait()
        except TimeoutError:
            if session.seen:
                return "nobody is connected any more"
            return f"nobody connected within {settings.wait_seconds:g} s"
    return session.ended


async def _warn(session: OpenSession) -> None:
    """Warn in the terminals before the time limit."""
    loop = asyncio.get_running_loop()
    settings = session.settings
    end = loop.time() + settings.seconds
    for before in sorted(settings.warn_seconds, reverse=True):
        if before >= settings.seconds:
            continue
        await asyncio.sleep(end - before - loop.time())
        left = f"{before / 60:g} min" if before >= 60 else f"{before:g} s"
        session.warn(f"this session ends in {left}: its time limit is {settings.limit:g} s")


async def _close(session: OpenSession) -> None:
    """End the programs, then the connections. A client that is disconnected loses output that it
    has not shown yet, so it gets a moment to leave by itself.
    """
    for program in list(session.programs):
        program.signal(signal.SIGHUP)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            while session.programs or session.connections:
                session.changed.clear()
                await session.changed.wait()
    connections = list(session.connections)
    for connection in connections:
        connection.close(f"this session ends: {session.ended}")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await asyncio.gather(*(one.closed() for one in connections), return_exceptions=True)


async def _accept(
    listener: socket.socket, session: OpenSession, options: asyncssh.SSHServerConnectionOptions
) -> None:
    loop = asyncio.get_running_loop()
    strangers: set[asyncio.Task[None]] = set()
    while True:
        try:
            accepted, address = await loop.sock_accept(listener)
        except OSError:
            await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
            continue
        if len(strangers) >= MAX_STRANGERS or len(session.connections) >= MAX_CONNECTIONS:
            accepted.close()
            continue
        through = "through a node" if listener.family == socket.AF_UNIX else str(address[0])
        task = asyncio.create_task(_enter(accepted, Connection(session, through), options))
        strangers.add(task)
        task.add_done_callback(strangers.discard)


async def _enter(
    accepted: socket.socket, owner: Connection, options: asyncssh.SSHServerConnectionOptions
) -> None:
    """Serve a connection until it is authenticated or has ended."""
    with contextlib.suppress(OSError, asyncssh.Error):
        await asyncssh.run_server(accepted, options=options, server_factory=lambda: owner)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the log takes no more
        print(time.strftime("%H:%M:%SZ", time.gmtime()), text, flush=True)

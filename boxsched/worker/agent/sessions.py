"""Connections from the agent to the servers of SSH sessions."""

import asyncio
import os
import socket

from boxsched.worker.agent.attempt import Attempt

CONNECT_SECONDS = 5.0


class NoSession(Exception):
    """The session cannot be entered here; the message says why."""


async def connect_session(attempt: Attempt) -> socket.socket:
    """Connect to the session's server. Raises Damaged, OSError."""
    place = attempt.session_socket()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            # The folder's own path may be too long for a socket.
            await asyncio.get_running_loop().sock_connect(made, f"/proc/self/fd/{place}")
    except OSError:
        made.close()
        raise
    finally:
        os.close(place)
    return made

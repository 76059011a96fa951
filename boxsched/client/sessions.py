"""The calls about SSH sessions."""

import contextlib
import uuid
from collections.abc import AsyncIterator

import aiohttp

from boxsched import errors, tunnelling
from boxsched.client.http import ServiceLine, path
from boxsched.client.operating import read
from boxsched.client.records import Workload

_UNREADY = (502, 503, 504)


class CannotEnter(errors.BoxschedError):
    """The session cannot be entered now."""


class Sessions:
    """A part of ``Client``."""

    _line: ServiceLine

    async def session(
        self,
        project: str,
        *,
        public_key: str,
        branch: str | None = None,
        build: str | None = None,
        box_type: str | None = None,
        priority: int | None = None,
        key: str | None = None,
    ) -> Workload:
        """Submit an SSH session with the code of a branch, or of a finished build or deploy.

        ``public_key``: in OpenSSH's format; who has its private key may enter. ``build``: an id.
        ``key``: the Idempotency-Key. The workload's ``ssh`` says how to enter, once it is open.
        """
        asked = {
            "public_key": public_key,
            "branch": branch,
            "build": build,
            "box_type": box_type,
            "priority": priority,
        }
        body = {name: value for name, value in asked.items() if value is not None}
        where = path("projects", project, "ssh-sessions")
        _, answer = await self._line.call("POST", where, body=body, key=key or str(uuid.uuid4()))
        return read(Workload, answer)

    @contextlib.asynccontextmanager
    async def ssh_tunnel(self, workload: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a way through the service to the server of a session; for ``async with``.

        Binary messages carry the bytes of the SSH connection (``boxsched.tunnelling``). Raises
        CannotEnter, and Conflict if the session is not open.
        """
        where = path("workloads", workload, "ssh")
        patience = self._line.trying()
        while True:
            try:
                tunnel = await self._line.web_socket(
                    where, tunnelling.MAX_MESSAGE_BYTES, tunnelling.HEARTBEAT_SECONDS
                )
                break
            except aiohttp.WSServerHandshakeError as refused:
                if refused.status not in _UNREADY:
                    raise await self._why_refused(where, refused.status) from None
                error = CannotEnter(
                    f"the session {workload} cannot be entered through the service at "
                    f"{self._line.url} now ({refused.status})"
                )
                await self._line.retry(patience, error)
            except (aiohttp.ClientError, OSError) as broken:
                await self._line.retry(patience, self._line.unreachable(broken))
        try:
            tunnelling.bound_silence(tunnel.get_extra_info("socket"))
            yield tunnel
        finally:
            await tunnelling.close(tunnel)

    async def _why_refused(self, where: str, status: int) -> errors.BoxschedError:
        """Return the service's refusal. A failed handshake has lost it, so ask again."""
        try:
            await self._line.call("GET", where)
        except errors.Malformed:
            pass  # it would accept a WebSocket now; or a proxy refuses WebSockets
        except errors.BoxschedError as refusal:
            return refusal
        return CannotEnter(
            f"no WebSocket can be opened at {self._line.url} ({status}): a proxy may refuse them"
        )

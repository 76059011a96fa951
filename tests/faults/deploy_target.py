"""A target of deploys: it keeps the highest lease token, and refuses lower ones."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import attrs


@attrs.frozen
class Effect:
    resource: str
    token: int
    job: str
    attempt: int
    accepted: bool


class DeployTarget:
    def __init__(self) -> None:
        self.port = 0
        self.effects: list[Effect] = []
        self._highest: dict[str, int] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if line := await reader.readline():
                resource, token, job, attempt = line.decode().split()
                writer.write(b"ok\n" if self._take(resource, int(token), job, attempt) else b"no\n")
                await writer.drain()
        writer.close()

    def _take(self, resource: str, token: int, job: str, attempt: str) -> bool:
        accepted = token >= self._highest.get(resource, 0)
        if accepted:
            self._highest[resource] = token
        self.effects.append(Effect(resource, token, job, int(attempt), accepted))
        return accepted

    @property
    def refused(self) -> list[Effect]:
        return [effect for effect in self.effects if not effect.accepted]

    @property
    def command(self) -> str:
        """A command for a job: announce the deploy, and fail if it is refused."""
        return (
            f"exec 3<>/dev/tcp/127.0.0.1/{self.port}; "
            'echo "$BOXSCHED_PROJECT:$BOXSCHED_SERVER $BOXSCHED_LEASE_TOKEN '
            '$BOXSCHED_JOB $BOXSCHED_ATTEMPT" >&3; '
            'read -r answer <&3; [ "$answer" = ok ]'
        )


@contextlib.asynccontextmanager
async def deploy_target() -> AsyncIterator[DeployTarget]:
    target = DeployTarget()
    server = await asyncio.start_server(target.serve, "127.0.0.1", 0)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()

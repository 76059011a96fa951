"""The calls about the installation itself: workers, Boxes, nodes, tokens, metrics."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from boxsched import errors
from boxsched.client.http import ServiceLine, path
from boxsched.client.records import (
    Box,
    Ghost,
    Me,
    NewToken,
    Node,
    Organization,
    Pause,
    Server,
    SetAside,
    Token,
    Worker,
)
from boxsched.client.schedules import Schedule

_T = TypeVar("_T")


class Operating:
    """A part of ``Client``."""

    _line: ServiceLine

    async def workers(self) -> list[Worker]:
        return (await self._get(dict[str, list[Worker]], path("workers")))["workers"]

    async def boxes(self) -> list[Box]:
        return (await self._get(dict[str, list[Box]], path("boxes")))["boxes"]

    async def nodes(self) -> list[Node]:
        return (await self._get(dict[str, list[Node]], path("nodes")))["nodes"]

    async def metrics(self) -> str:
        """Return the service's metrics in the Prometheus format."""
        _, body = await self._line.call("GET", "/metrics")
        return body.decode()

    async def drain_worker(
        self, worker: str, *, note: str = "", stop_after_seconds: float | None = None
    ) -> Worker:
        """Drain a worker, by id or name: it finishes its jobs, gets no new ones, and then ends.

        ``stop_after_seconds``: jobs that still run then are stopped.
        """
        said = {"note": note, "stop_after_seconds": stop_after_seconds}
        body = {field: value for field, value in said.items() if value is not None}
        _, answer = await self._line.call("POST", path("workers", worker, "drain"), body=body)
        return read(Worker, answer)

    async def resume_worker(self, worker: str) -> Worker:
        """Cancel a worker's drain. Raises Conflict if it is not being drained."""
        _, answer = await self._line.call("POST", path("workers", worker, "resume"))
        return read(Worker, answer)

    async def remove_worker(self, worker: str) -> None:
        """Remove a worker by id or name; a connected one ends first. Raises Conflict while it has
        jobs."""
        await self._line.call("DELETE", path("workers", worker))

    # --- Organizations -----------------------------------------------------------------------

    async def organizations(self) -> list[Organization]:
        """Return the organizations that the token may act in, by name."""
        found = await self._get(dict[str, list[Organization]], path("organizations"))
        return found["organizations"]

    async def put_organization(
        self,
        name: str,
        *,
        policy: str = "backfill",
        max_boxes: int | None = None,
        priority_aging: float | None = None,
        lost_retries: int = 2,
    ) -> Organization:
        """Create an organization, or replace all settings of its queue."""
        body = {
            "policy": policy,
            "max_boxes": max_boxes,
            "priority_aging": priority_aging,
            "lost_retries": lost_retries,
        }
        _, answer = await self._line.call("PUT", path("organizations", name), body=body)
        return read(Organization, answer)

    async def delete_organization(self, name: str) -> None:
        """Delete an organization. Raises Conflict while it has unfinished workloads."""
        await self._line.call("DELETE", path("organizations", name))

    # --- Ghosts ------------------------------------------------------------------------------

    async def ghosts(self) -> list[Ghost]:
        """Return the attempts that workers hold and that are not theirs for the scheduler."""
        return (await self._get(dict[str, list[Ghost]], path("ghosts")))["ghosts"]

    async def restore_ghost(self, ghost: str) -> Ghost:
        """Give a ghost's job back to its worker. Raises Conflict if it may not continue there."""
        _, answer = await self._line.call("POST", path("ghosts", ghost, "restore"))
        return read(Ghost, answer)

    async def kill_ghost(self, ghost: str) -> Ghost:
        """End a ghost: its worker does so at its next heartbeat."""
        _, answer = await self._line.call("POST", path("ghosts", ghost, "kill"))
        return read(Ghost, answer)

    async def forget_node(self, name: str) -> None:
        """Remove a node that was shut down. Raises Conflict while it is alive."""
        await self._line.call("DELETE", path("nodes", name))

    # --- Pauses ------------------------------------------------------------------------------

    async def pause(
        self,
        name: str,
        *,
        note: str,
        project: str | None = None,
        branch: str | None = None,
        server: str | None = None,
        automatic: bool = False,
        until: str | None = None,
    ) -> Pause:
        """Begin a pause, or replace the pause of this name. ``until``: an RFC 3339 time."""
        said = {
            "note": note,
            "project": project,
            "branch": branch,
            "server": server,
            "automatic": automatic,
            "until": until,
        }
        body = {field: value for field, value in said.items() if value is not None}
        _, answer = await self._line.call("PUT", path("pauses", name), body=body)
        return read(Pause, answer)

    async def pauses(self) -> list[Pause]:
        """Return all pauses, sorted by name."""
        return (await self._get(dict[str, list[Pause]], path("pauses")))["pauses"]

    async def resume(self, name: str) -> None:
        """End the pause of this name."""
        await self._line.call("DELETE", path("pauses", name))

    async def servers(self, project: str) -> list[Server]:
        """Return what is live on the project's servers and what waits for them."""
        found = await self._get(dict[str, list[Server]], path("projects", project, "servers"))
        return found["servers"]

    async def schedules(self, project: str | None = None) -> list[Schedule]:
        """Return the schedules of a project, or of all projects."""
        if project is not None:
            where = path("projects", project, "schedules")
            return (await self._get(dict[str, list[Schedule]], where))["schedules"]
        found: list[Schedule] = []
        query = {"limit": "200"}
        while True:
            page = await self._get(_Schedules, path("schedules"), query)
            found += page.schedules
            if page.next_cursor is None:
                return found
            query["cursor"] = page.next_cursor

    # --- Commands that were set aside --------------------------------------------------------

    async def set_aside(self) -> list[SetAside]:
        """Return the latest 100 commands that the scheduler could not execute, latest first."""
        return (await self._get(dict[str, list[SetAside]], path("set-aside")))["commands"]

    async def set_aside_command(self, command: str) -> SetAside:
        return await self._get(SetAside, path("set-aside", command))

    async def drop_set_aside(self, command: str) -> None:
        """Remove the command from the list."""
        await self._line.call("DELETE", path("set-aside", command))

    # --- Tokens ------------------------------------------------------------------------------

    async def create_token(
        self,
        role: str,
        *,
        name: str | None = None,
        projects: Sequence[str] | None = None,
        servers: Sequence[str] | None = None,
        organization: str | None = None,
        expires_in_seconds: float | None = None,
        max_workers: int | None = None,
    ) -> NewToken:
        """Create a token. ``role``: viewer, developer, operator, admin or worker. ``projects``,
        ``servers``: patterns of the names that it is limited to. A failed call is not repeated.
        """
        said = {
            "role": role,
            "name": name,
            "projects": projects,
            "servers": servers,
            "organization": organization,
            "expires_in_seconds": expires_in_seconds,
            "max_workers": max_workers,
        }
        body = {field: value for field, value in said.items() if value is not None}
        _, answer = await self._line.call("POST", path("tokens"), body=body)
        return read(NewToken, answer)

    async def me(self) -> Me:
        """Return what the caller's token may do."""
        return await self._get(Me, path("me"))

    async def tokens(self) -> list[Token]:
        """Return all tokens that were not revoked, oldest first."""
        return (await self._get(dict[str, list[Token]], path("tokens")))["tokens"]

    async def revoke_token(self, token: str) -> None:
        """Revoke a token by its id. Within a second no node accepts it."""
        await self._line.call("DELETE", path("tokens", token))

    async def _get(self, kind: type[_T], where: str, query: Mapping[str, str] | None = None) -> _T:
        _, body = await self._line.call("GET", where, query=query)
        return read(kind, body)


class _Schedules(msgspec.Struct, frozen=True):
    schedules: list[Schedule]
    next_cursor: str | None


def read(kind: type[_T], body: bytes) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise errors.Malformed(f"the answer is not from a boxsched service: {error}") from None

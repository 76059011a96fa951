"""The calls about secrets. No call returns a value."""

from boxsched.client.http import ServiceLine, path
from boxsched.client.operating import read
from boxsched.client.records import Rotated, Secret


class Secrets:
    """A part of ``Client``."""

    _line: ServiceLine

    async def secrets(self, project: str) -> list[Secret]:
        """Return the secrets of a project, sorted by name, without their values."""
        _, body = await self._line.call("GET", path("projects", project, "secrets"))
        return read(dict[str, list[Secret]], body)["secrets"]

    async def set_secret(
        self, project: str, name: str, value: str, *, file: bool = False
    ) -> Secret:
        """Create or replace a secret.

        ``file``: jobs get the value as a file, whose path is in the variable ``name``.
        """
        where = path("projects", project, "secrets", name)
        _, answer = await self._line.call("PUT", where, body={"value": value, "file": file})
        return read(Secret, answer)

    async def delete_secret(self, project: str, name: str) -> None:
        """Delete a secret. Jobs that have begun keep it."""
        await self._line.call("DELETE", path("projects", project, "secrets", name))

    async def rotate_secrets(self) -> Rotated:
        """Seal every value again with the service's first key, in batches."""
        resealed, unusable = 0, list[str]()
        after: str | None = None
        while True:
            body = {"after": after}
            _, answer = await self._line.call("POST", path("secrets", "rotate"), body=body)
            step = read(_Step, answer)
            resealed += step.resealed
            unusable += step.unusable
            after = step.next
            if after is None:
                return Rotated(resealed, tuple(unusable))


class _Step(Rotated, frozen=True):
    next: str | None = None

"""What jobs are given: the secrets of their projects, opened on the way to their worker.

Opened values are only in assignments, and these only in the memory of the node and of the worker
that runs the job. A job whose secrets cannot be opened here is not run without them: it fails, and
its reason says what to do.
"""

from collections.abc import Mapping, Sequence

import attrs

from boxsched.errors import SecretsUnusable
from boxsched.model import ProjectId, WorkerId
from boxsched.protocol.assignments import Assignment, JobSecret
from boxsched.secrets.owners import of_project
from boxsched.secrets.vault import Vault
from boxsched.store.steps.secrets import SealedSecret
from boxsched.store.store import Store

Levels = Mapping[WorkerId, Sequence[Assignment]]

_TOO_OLD = (
    "echo 'boxsched: this worker is too old to be given secrets: upgrade it' >&2",
    "exit 1",
)


@attrs.frozen
class _Opened:
    secrets: tuple[JobSecret, ...] = ()
    refusal: str | None = None


class Giving:
    """Adds secrets to the jobs that have yet to begin."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def assignments(self, ids: Sequence[WorkerId]) -> Levels:
        """What each worker should be running now, with secrets. Raises StoreAway."""
        return await self.fill(await self._store.assignments(ids))

    async def fill(self, levels: Levels) -> Levels:
        """The levels with their secrets; one more query where there are any. Raises StoreAway."""
        owners = {
            one.owner
            for level in levels.values()
            for one in level
            if one.has_secrets and one.owner is not None
        }
        if not owners:
            return levels
        sealed: dict[ProjectId, list[SealedSecret]] = {owner: [] for owner in owners}
        for secret in await self._store.sealed_secrets(sorted(owners)):
            sealed[secret.project].append(secret)
        opened = {owner: self._open(owner, secrets) for owner, secrets in sealed.items()}
        return {worker: [_filled(one, opened) for one in level] for worker, level in levels.items()}

    def _open(self, owner: ProjectId, sealed: Sequence[SealedSecret]) -> _Opened:
        try:
            return _Opened(
                tuple(
                    JobSecret(
                        one.name,
                        self._vault.open(of_project(owner), one.name, one.version, one.sealed),
                        one.as_file,
                    )
                    for one in sealed
                )
            )
        except SecretsUnusable as error:
            return _Opened(refusal=f"it cannot be given its secrets: {error.message}")


def for_older_worker(level: Sequence[Assignment]) -> Sequence[Assignment]:
    """A worker of an earlier version would run jobs without their secrets: these fail there."""
    if not any(one.secrets or one.refusal for one in level):
        return level
    return [_refused(one) if one.secrets or one.refusal else one for one in level]


def _refused(one: Assignment) -> Assignment:
    return attrs.evolve(
        one, commands=_TOO_OLD, show_commands=False, repository=None, secrets=(), refusal=None
    )


def _filled(one: Assignment, opened: Mapping[ProjectId, _Opened]) -> Assignment:
    if not one.has_secrets or one.owner is None:
        return one
    found = opened[one.owner]
    return attrs.evolve(one, secrets=found.secrets, refusal=found.refusal)

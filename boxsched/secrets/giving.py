"""What jobs are given: the secrets of their projects, and what git needs to reach their
repositories, opened on the way to their worker.

Opened values are only in assignments, and these only in the memory of the node and of the worker
that runs the job. A job whose secrets cannot be opened here is not run without them: it fails, and
its reason says what to do.
"""

from collections.abc import Callable, Mapping, Sequence

import attrs
import msgspec

from boxsched.errors import SecretsUnusable
from boxsched.model import ProjectId, WorkerId
from boxsched.protocol.assignments import Assignment, GitCredentials, JobSecret
from boxsched.secrets.git_credentials import opened
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
    """Adds secrets, and credentials for git, to the jobs that have yet to begin."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def assignments(self, ids: Sequence[WorkerId]) -> Levels:
        """What each worker should be running now, with secrets. Raises StoreAway."""
        return await self.fill(await self._store.assignments(ids))

    async def fill(self, levels: Levels) -> Levels:
        """The levels with secrets and credentials; a query more for each where there are any.
        Raises StoreAway."""
        return await self._with_secrets(await self._with_credentials(levels))

    async def _with_credentials(self, levels: Levels) -> Levels:
        owners = _owners(levels, lambda one: one.has_credentials and one.repository is not None)
        if not owners:
            return levels
        sealed = await self._store.sealed_git_credentials(owners)
        lent: dict[tuple[ProjectId, str], GitCredentials | str | None] = {}
        for level in levels.values():
            for one in level:
                if one.owner in sealed and one.owner is not None and one.repository is not None:
                    key = one.owner, one.repository
                    if key not in lent:
                        lent[key] = self._lent(*key, sealed[one.owner])
        return {
            worker: [_able_to_clone(one, lent) for one in level] for worker, level in levels.items()
        }

    def _lent(self, owner: ProjectId, repository: str, sealed: str) -> GitCredentials | str | None:
        """What git is given for the repository, or why it cannot be given anything."""
        try:
            return opened(self._vault, owner, sealed, repository)
        except SecretsUnusable as error:
            return f"git cannot be given its credentials: {error.message}"

    async def _with_secrets(self, levels: Levels) -> Levels:
        owners = _owners(levels, lambda one: one.has_secrets)
        if not owners:
            return levels
        sealed: dict[ProjectId, list[SealedSecret]] = {owner: [] for owner in owners}
        for secret in await self._store.sealed_secrets(owners):
            sealed[secret.project].append(secret)
        given = {owner: self._open(owner, secrets) for owner, secrets in sealed.items()}
        return {worker: [_filled(one, given) for one in level] for worker, level in levels.items()}

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


def _owners(levels: Levels, wanted: Callable[[Assignment], bool]) -> list[ProjectId]:
    """Of the jobs that have yet to begin."""
    found = {
        one.owner
        for level in levels.values()
        for one in level
        if one.owner is not None and wanted(one)
    }
    return sorted(found)


def for_older_worker(level: Sequence[Assignment]) -> Sequence[Assignment]:
    """A worker of an earlier version would run jobs without their secrets: these fail there."""
    if not any(one.secrets or one.refusal for one in level):
        return level
    return [_refused(one) if one.secrets or one.refusal else one for one in level]


def _refused(one: Assignment) -> Assignment:
    return attrs.evolve(
        one, commands=_TOO_OLD, show_commands=False, repository=None, secrets=(), refusal=None
    )


def _able_to_clone(
    one: Assignment, lent: Mapping[tuple[ProjectId, str], GitCredentials | str | None]
) -> Assignment:
    """A fork's submodules may be anywhere that its author likes: they get no credentials."""
    if one.owner is None or one.repository is None:
        return one
    found = lent.get((one.owner, one.repository))
    if isinstance(found, str):
        return attrs.evolve(one, refusal=found)
    if found is not None and one.from_fork:
        found = msgspec.structs.replace(found, for_submodules=False)
    return attrs.evolve(one, credentials=found)


def _filled(one: Assignment, given: Mapping[ProjectId, _Opened]) -> Assignment:
    if not one.has_secrets or one.owner is None:
        return one
    found = given[one.owner]
    return attrs.evolve(one, secrets=found.secrets, refusal=one.refusal or found.refusal)

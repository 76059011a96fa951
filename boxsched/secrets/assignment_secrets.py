"""Add opened secrets and git credentials to the assignments of workers.

Opened values exist only in assignments, in the memory of the node and of the worker that runs the
job. A job never runs without its secrets: if this node cannot open them, the job fails with a
reason that says what to do.
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


class AssignmentSecrets:
    """Adds secrets and git credentials to jobs that have not begun."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def assignments(self, ids: Sequence[WorkerId]) -> Levels:
        """Return what each worker should be running now, with secrets. Raises StoreAway."""
        return await self.fill(await self._store.assignments(ids))

    async def fill(self, levels: Levels) -> Levels:
        """Return the levels with secrets and credentials added. Raises StoreAway."""
        return await self._with_secrets(await self._with_credentials(levels))

    async def _with_credentials(self, levels: Levels) -> Levels:
        owners = _owners(levels, lambda one: one.has_credentials and one.repository is not None)
        if not owners:
            return levels
        sealed = await self._store.sealed_git_credentials(owners)
        git_access: dict[tuple[ProjectId, str], GitCredentials | str | None] = {}
        for level in levels.values():
            for one in level:
                if one.owner in sealed and one.owner is not None and one.repository is not None:
                    key = one.owner, one.repository
                    if key not in git_access:
                        git_access[key] = self._git_access(*key, sealed[one.owner])
        return {
            worker: [_with_git_access(one, git_access) for one in level]
            for worker, level in levels.items()
        }

    def _git_access(
        self, owner: ProjectId, repository: str, sealed: str
    ) -> GitCredentials | str | None:
        """Return what git gets for the repository, or the reason why it gets nothing."""
        try:
            return opened(self._vault, owner, sealed, repository)
        except SecretsUnusable as error:
            return f"the git credentials cannot be used: {error.message}"

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
            return _Opened(refusal=f"the job's secrets cannot be used: {error.message}")


def _owners(levels: Levels, wanted: Callable[[Assignment], bool]) -> list[ProjectId]:
    """Return the owners of the jobs that have not begun."""
    found = {
        one.owner
        for level in levels.values()
        for one in level
        if one.owner is not None and wanted(one)
    }
    return sorted(found)


def refuse_on_older_worker(level: Sequence[Assignment]) -> Sequence[Assignment]:
    """Let jobs with secrets fail: a worker of an earlier version would run them without."""
    if not any(one.secrets or one.refusal for one in level):
        return level
    return [_refused(one) if one.secrets or one.refusal else one for one in level]


def _refused(one: Assignment) -> Assignment:
    return attrs.evolve(
        one, commands=_TOO_OLD, show_commands=False, repository=None, secrets=(), refusal=None
    )


def _with_git_access(
    one: Assignment, git_access: Mapping[tuple[ProjectId, str], GitCredentials | str | None]
) -> Assignment:
    """Add git's part. A fork's submodules get no credentials: its author chooses their hosts."""
    if one.owner is None or one.repository is None:
        return one
    found = git_access.get((one.owner, one.repository))
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

"""Make a change of a project from the requested settings.

A change is planned for the version that was read, and written only if the project still has this
version. After a concurrent change it is planned again. So the recorded change is always exact.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from msgspec import UNSET, UnsetType

from boxsched.api.http import replies
from boxsched.api.messages import checks
from boxsched.api.messages.git_credentials import tidy
from boxsched.api.messages.requests import ProjectSettings
from boxsched.api.submitting.known_projects import KnownProjects, is_project_name, settings_of
from boxsched.api.submitting.older_nodes import refuse_beside_older
from boxsched.api.submitting.project_schedules import first_times
from boxsched.api.submitting.project_targets import targets, without_secrets
from boxsched.api.submitting.stored_settings import (
    field_of_eighth_schema,
    newer_field,
    without_defaults,
)
from boxsched.errors import Conflict, Invalid, Outdated, SecretsUnusable
from boxsched.node.node import Node
from boxsched.outgoing.targets import hook_name
from boxsched.protocol.schedules import NewSchedule
from boxsched.protocol.shards import OrganizationRef, Project
from boxsched.secrets import git_credentials
from boxsched.secrets.owners import of_project, sealing
from boxsched.secrets.vault import Vault
from boxsched.store.steps.notifications import STATUSES, StoredTarget, Target, check_tokens
from boxsched.store.steps.project_versions import ABSENT, Edit
from boxsched.store.steps.secrets import GIT_CREDENTIALS, WEBHOOK_SECRET, Seal

ATTEMPTS = 20
MAX_CHANGED_SERVERS = 50  # named one by one in ``changed``
_NOTHING = ProjectSettings()


@attrs.frozen
class ProjectChange:
    """A planned change of a project. ``changed``: the names of the fields that differ."""

    before: Project | None
    former: ProjectSettings
    settings: ProjectSettings  # without write-only fields
    changed: tuple[str, ...]
    sealed: Mapping[str, Seal | None] = attrs.field(repr=False)
    targets: tuple[Target, ...] = attrs.field(repr=False)
    schedules: tuple[NewSchedule, ...]
    planned_at: float  # when the first times of schedules were chosen; 0 without any

    @property
    def needed(self) -> bool:
        return self.before is None or bool(self.changed)


class ProjectChanges:
    """Plans changes of projects, and makes them."""

    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._store = node.store
        self._known = known

    async def plan(
        self, organization: OrganizationRef, name: str, asked: ProjectSettings
    ) -> ProjectChange:
        """Check the settings and compare them with the stored ones. Raises Invalid."""
        if not is_project_name(name):
            raise Invalid(
                "a project's name must be 1 to 63 of the characters a-z, 0-9, '.', '_' and '-', "
                "and begin with a letter or a digit",
                "project",
            )
        checks.settings(name, asked)
        now = await self._store.time() if asked.schedules else 0.0
        schedules = await first_times(asked, now)
        vault = self._node.vault
        new_targets = tuple(targets(vault, asked, self._node.options.allow_outgoing))
        before = await self._store.project(name, organization.id)
        stored = [] if before is None else await self._store.targets(before.id)
        check_tokens(stored, new_targets)
        sealed_git = await self._sealed_git_credentials(before)
        _check_kept_credentials(vault, before, sealed_git, asked)
        former = _NOTHING if before is None else settings_of(before)
        settings = msgspec.structs.replace(without_secrets(asked), name=UNSET)
        changed = (
            *_differing(former, settings),
            *_new_secrets(vault, before, stored, sealed_git, asked),
        )
        # Do not set the same secret again: the previous one would become invalid too early.
        sealed = _sealed(vault, asked, changed)
        return ProjectChange(before, former, settings, changed, sealed, new_targets, schedules, now)

    async def _sealed_git_credentials(self, before: Project | None) -> str | None:
        """Return the project's sealed git credentials."""
        if before is None:
            return None
        return (await self._store.sealed_git_credentials([before.id])).get(before.id)

    async def make(
        self,
        organization: OrganizationRef,
        name: str,
        asked: ProjectSettings,
        by: str,
        check: Callable[[Project | None], None],
        reverts: int | None = None,
    ) -> tuple[Project, bool]:
        """Change the project; return it, and whether it was created. ``check`` raises if the caller
        expects another version. Unchanged settings write nothing.
        """
        for _ in range(ATTEMPTS):
            change = await self.plan(organization, name, asked)
            check(change.before)
            if change.before is not None and not change.needed:
                return change.before, False
            onto = ABSENT if change.before is None else (change.before.id, change.before.version)
            edit = Edit(by, change.changed, reverts, onto)
            try:
                return await self._write(organization, name, change, edit)
            except Outdated:
                continue
        raise Conflict("the project keeps changing: try again")

    async def _write(
        self, organization: OrganizationRef, name: str, change: ProjectChange, edit: Edit
    ) -> tuple[Project, bool]:
        settings = without_defaults(change.settings, plain(change.settings))
        newer = newer_field(settings)
        if newer is not None:
            await refuse_beside_older(self._node, "this field", newer)
        newest = field_of_eighth_schema(settings)
        if newest is not None:
            await refuse_beside_older(self._node, "this field", newest, schema=8)
        done = await asyncio.shield(
            self._store.put_project(
                name,
                replies.encode(settings).decode(),
                change.settings.max_boxes,
                change.sealed,
                change.targets,
                edit,
                change.schedules,
                change.planned_at,
                organization.id,
            )
        )
        self._node.wake(organization.shard)
        self._known.forget(name, organization.id)
        return done


def plain(settings: ProjectSettings) -> dict[str, Any]:
    """Return the settings as JSON values. A rule without a progress guarantee is a pair."""
    built: dict[str, Any] = msgspec.to_builtins(settings)
    for rule in built["cancellation"]:
        del rule[2 if rule[2] is None else 3 :]
    return built


def shown(name: str, settings: ProjectSettings) -> dict[str, Any]:
    """Return the settings with the project's name, without write-only fields."""
    return plain(msgspec.structs.replace(settings, name=name))


def _differing(former: ProjectSettings, settings: ProjectSettings) -> Iterator[str]:
    """Yield the names of the fields that differ; for ``servers`` each server, if they are few."""
    for field in ProjectSettings.__struct_fields__:
        old, new = getattr(former, field), getattr(settings, field)
        if old == new or field in ("name", "webhook_secret", "git_credentials"):
            continue
        if field == "servers":
            names = [name for name in (new | old) if old.get(name) != new.get(name)]
            if len(names) <= MAX_CHANGED_SERVERS:
                yield from (f"servers.{name}" for name in names)
                continue
        yield field


def _check_kept_credentials(
    vault: Vault, before: Project | None, sealed_git: str | None, asked: ProjectSettings
) -> None:
    """Refuse a new repository on another host without new git credentials.

    Raises Invalid.
    """
    if before is None or sealed_git is None or asked.repository is None:
        return
    if asked.git_credentials is not UNSET:
        return
    try:
        git_credentials.opened(vault, before.id, sealed_git, asked.repository)
    except git_credentials.ForAnotherHost as error:
        raise Invalid(error.message.removeprefix("git_credentials "), "git_credentials") from None
    except SecretsUnusable:
        pass  # the jobs that need them fail with this reason


def _new_secrets(
    vault: Vault,
    before: Project | None,
    stored: list[StoredTarget],
    sealed_git: str | None,
    asked: ProjectSettings,
) -> Iterator[str]:
    """Yield the write-only fields whose given values differ from the stored ones."""
    sealed = {one.name: one.sealed for one in stored}

    def differs(name: str, value: object, text: str | None) -> bool:
        if value is UNSET:
            return False
        if value is None or text is None or before is None:
            return value is not text
        try:
            return vault.opened(of_project(before.id), name, 1, text) != value
        except SecretsUnusable:
            return True

    webhook = None if before is None else before.webhook_secret
    if differs(WEBHOOK_SECRET, asked.webhook_secret, webhook):
        yield WEBHOOK_SECRET
    if differs(GIT_CREDENTIALS, _plain_for_git(asked), sealed_git):
        yield GIT_CREDENTIALS
    if asked.statuses is not None and differs(STATUSES, asked.statuses.token, sealed.get(STATUSES)):
        yield "statuses.token"
    for index, hook in enumerate(asked.hooks):
        name = hook_name(hook.url)
        if differs(name, hook.secret, sealed.get(name)):
            yield f"hooks[{index}].secret"


def _sealed(
    vault: Vault, asked: ProjectSettings, changed: Sequence[str]
) -> Mapping[str, Seal | None]:
    """Return the write-only values to set, or None to remove one. Others stay unchanged."""
    values = {WEBHOOK_SECRET: asked.webhook_secret, GIT_CREDENTIALS: _plain_for_git(asked)}
    return {
        place: None if value is None else sealing(vault, place, value)
        for place, value in values.items()
        if value is not UNSET and place in changed
    }


def _plain_for_git(asked: ProjectSettings) -> str | UnsetType | None:
    its = asked.git_credentials
    if its is UNSET or its is None:
        return its
    assert asked.repository is not None, "checked before"
    key = None if its.ssh_key is None else tidy(its.ssh_key)
    return git_credentials.plain(asked.repository, ssh_key=key, https_token=its.https_token)

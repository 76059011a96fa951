"""Turn a project's ``statuses`` and ``hooks`` into the targets that the store keeps."""

from collections.abc import Collection

import msgspec
from msgspec import UNSET, UnsetType
from yarl import URL

from boxsched.api.messages.requests import Hook, ProjectSettings, StatusSettings
from boxsched.errors import Invalid
from boxsched.outgoing import statuses
from boxsched.outgoing.guard import check_host
from boxsched.outgoing.targets import hook_name, host_of
from boxsched.repository import repository
from boxsched.secrets.owners import sealing
from boxsched.secrets.vault import Vault
from boxsched.store.steps.notifications import KEPT, STATUSES, Target
from boxsched.store.steps.secrets import Seal


def targets(vault: Vault, asked: ProjectSettings, allowed: Collection[str]) -> list[Target]:
    """Return the targets. Raises Invalid with the field to change.

    ``allowed``: hosts to which requests may be sent although their addresses are not public.
    """
    found = []
    if asked.statuses is not None:
        found.append(_statuses(vault, asked.statuses, asked.repository, allowed))
    names: set[str] = set()
    for index, hook in enumerate(asked.hooks):
        target = _hook(vault, hook, f"hooks[{index}]", allowed)
        if target.name in names:
            raise Invalid("an earlier hook has the same URL", f"hooks[{index}].url")
        names.add(target.name)
        found.append(target)
    return found


def without_secrets(asked: ProjectSettings) -> ProjectSettings:
    """Return the settings as they are stored and shown: without write-only fields."""
    its = asked.statuses
    return msgspec.structs.replace(
        asked,
        webhook_secret=UNSET,
        git_credentials=UNSET,
        statuses=None if its is None else msgspec.structs.replace(its, token=UNSET),
        hooks=tuple([msgspec.structs.replace(hook, secret=UNSET) for hook in asked.hooks]),
    )


def _statuses(
    vault: Vault, asked: StatusSettings, git: str | None, allowed: Collection[str]
) -> Target:
    if git is None:
        raise Invalid("commit statuses need the project's `repository`", "statuses")
    where = repository(git)
    if asked.provider != "bitbucket-server" and "/" not in where.path:
        raise Invalid(
            "commit statuses need a `repository` whose path has an owner and a name", "repository"
        )
    url = asked.api_url or statuses.default_api(asked.provider, where)
    if url is None:
        raise Invalid(
            "must be given: the repository's URL does not name the code host",
            "statuses.api_url",
        )
    host = _host(url, "statuses.api_url", allowed)
    seal = _sealed(vault, STATUSES, asked.token, "statuses.token")
    return Target(STATUSES, asked.provider, url, host, statuses.EVENTS, seal)


def _hook(vault: Vault, hook: Hook, field: str, allowed: Collection[str]) -> Target:
    host = _host(hook.url, f"{field}.url", allowed)
    name = hook_name(hook.url)
    seal = _sealed(vault, name, hook.secret, f"{field}.secret")
    return Target(name, None, hook.url, host, hook.events, seal)


def _host(url: str, field: str, allowed: Collection[str]) -> str:
    host = host_of(url, field)
    check_host(URL(url).host or "", allowed, field)
    return host


def _sealed(
    vault: Vault, name: str, value: str | UnsetType | None, field: str
) -> Seal | str | None:
    if value is UNSET:
        return KEPT
    if value is None:
        return None
    if name == STATUSES and not (value.isascii() and value.isprintable()):
        raise Invalid("must be printable ASCII text, because it is sent in a header", field)
    return sealing(vault, name, value)

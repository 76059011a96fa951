"""Secrets of projects and other sealed values; only sealed texts are stored."""

from collections.abc import Callable, Sequence

import attrs

from boxsched.errors import Invalid
from boxsched.model import OrganizationId, ProjectId, full_name
from boxsched.store.blocks import Call, Steps, load
from boxsched.store.mapping import mapper

_SQL = load("secrets.sql")

MAX_SECRETS = 100  # limit for a project
# limit for a project's secrets together: about 290,000 bytes of values
MAX_SEALED_CHARACTERS = 400_000

# The places of sealed texts; a sweep goes through them in this order.
SECRET, WEBHOOK_SECRET, GIT_CREDENTIALS = "secret", "webhook_secret", "git_credentials"
OUTGOING = "outgoing"
# The previous webhook secret is sealed under its original name, WEBHOOK_SECRET.
FORMER = "webhook_secret_before"
PLACES = (SECRET, WEBHOOK_SECRET, FORMER, GIT_CREDENTIALS, OUTGOING)

# returns the sealed text for the owner and the version of a value
Seal = Callable[[ProjectId, int], str]


@attrs.frozen
class SecretInfo:
    """A secret without its value; ``as_file``: jobs get it as a file."""

    name: str
    as_file: bool
    version: int
    updated_at: float


@attrs.frozen
class SealedSecret:
    """A stored secret."""

    project: ProjectId
    name: str
    version: int
    as_file: bool
    sealed: str = attrs.field(repr=False)


@attrs.frozen
class SealedText:
    """A sealed text and its place. ``version`` is 1 if the value has no versions."""

    place: str
    project: ProjectId
    name: str
    version: int
    text: str = attrs.field(repr=False)


_info = mapper(SecretInfo, _SQL["put_secret"].returns, _SQL["secrets"].returns, as_file=bool)
_sealed = mapper(SealedSecret, _SQL["sealed_secrets"].returns, as_file=bool)


def put_secret(
    project: str, name: str, seal: Seal, *, as_file: bool, organization: OrganizationId
) -> Steps[tuple[SecretInfo, bool] | None]:
    """Create or replace a secret. The project's row is locked, so concurrent calls get different
    versions.
    """
    locked = yield _SQL["lock_project"](name=full_name(organization, project))
    if not locked:
        return None
    owner = ProjectId(locked[0][0])
    before = yield _SQL["secret_version"](project=owner, name=name)
    version = before[0][0] + 1 if before else 1
    sealed = seal(owner, version)
    ((count, characters),) = yield _SQL["other_secrets"](project=owner, name=name)
    if count >= MAX_SECRETS:
        raise Invalid(f"a project has at most {MAX_SECRETS} secrets", "name")
    if characters + len(sealed) > MAX_SEALED_CHARACTERS:
        raise Invalid("a project's secrets have at most 290,000 bytes together", "value")
    written = yield _SQL["put_secret"](
        project=owner, name=name, version=version, as_file=as_file, sealed=sealed
    )
    return _info(written[0]), not before


def secrets(project: ProjectId) -> Steps[list[SecretInfo]]:
    return [_info(row) for row in (yield _SQL["secrets"](project=project))]


def drop_secret(project: ProjectId, name: str) -> Steps[bool]:
    return bool((yield _SQL["drop_secret"](project=project, name=name)))


def drop_secrets(project: ProjectId) -> Call:
    return _SQL["drop_secrets"](project=project)


def sealed_secrets(projects: Sequence[ProjectId]) -> Steps[list[SealedSecret]]:
    found = yield _SQL["sealed_secrets"].rows([(project,) for project in projects])
    return [_sealed(row) for row in found]


def sealed_git_credentials(projects: Sequence[ProjectId]) -> Steps[dict[ProjectId, str]]:
    found = yield _SQL["sealed_git_credentials"].rows([(project,) for project in projects])
    return {ProjectId(project): text for project, text in found}


def sealed_texts(
    place: str, after: tuple[ProjectId, str], prefix: str, limit: int
) -> Steps[list[SealedText]]:
    bounds = {"project": after[0], "prefix": prefix, "length": len(prefix), "limit": limit}
    if place == SECRET:
        rows = yield _SQL["slice_of_secret"](name=after[1], **bounds)
        return [SealedText(place, *row) for row in rows]
    if place == OUTGOING:
        rows = yield _SQL["slice_of_outgoing"](name=after[1], **bounds)
        return [SealedText(place, project, name, 1, text) for project, name, text in rows]
    rows = yield _SQL[f"slice_of_{place}"](**bounds)
    name = WEBHOOK_SECRET if place == FORMER else place
    return [SealedText(place, project, name, 1, text) for project, text in rows]


def reseal(texts: Sequence[tuple[SealedText, str]]) -> Steps[int]:
    """Replace the texts that have not changed since they were read; return how many."""
    done = 0
    for old, new in texts:
        what = {"project": old.project, "before": old.text, "sealed": new}
        if old.place == SECRET:
            what |= {"name": old.name, "version": old.version}
        elif old.place == OUTGOING:
            what["name"] = old.name
        done += len((yield _SQL[f"reseal_{old.place}"](**what)))
    return done

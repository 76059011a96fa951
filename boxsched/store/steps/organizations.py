"""Organizations: each has its projects, workers, Boxes, settings of the queue, and a shard."""

import attrs

from boxsched.errors import Conflict
from boxsched.model import DEFAULT_ORGANIZATION, MAX_ORGANIZATIONS, OrganizationId, short_name
from boxsched.protocol import inbox
from boxsched.protocol.shards import Organization
from boxsched.store import rows
from boxsched.store.blocks import Steps, load
from boxsched.store.steps import projects
from boxsched.store.steps.commands import add_commands

_SQL = load("organizations.sql")


def organizations() -> Steps[list[Organization]]:
    return [rows.organization(row) for row in (yield _SQL["organizations"]())]


def organization(id_: OrganizationId) -> Steps[Organization | None]:
    found = yield _SQL["organization"](organization=id_)
    return rows.organization(found[0]) if found else None


def put_organization(asked: Organization) -> Steps[tuple[Organization, bool]]:
    """Create the organization of this name, or replace its settings; its id, shard and time of
    creation are not taken from ``asked``.
    """
    yield _SQL["lock_organizations"]()
    found = yield _SQL["named"](name=asked.name)
    if not found:
        return (yield from _create(asked)), True
    there = rows.organization(found[0])
    wanted = attrs.evolve(asked, id=there.id, shard=there.shard, created_at=there.created_at)
    if wanted != there:
        yield from set_organization(wanted)
    return wanted, False


def _create(asked: Organization) -> Steps[Organization]:
    ((count, next_),) = yield _SQL["count_organizations"]()
    if count >= MAX_ORGANIZATIONS:
        raise Conflict(f"there are {count} organizations already: delete some first")
    ((shard,),) = yield _SQL["free_shard"]()
    if shard is None:
        ((shard,),) = yield _SQL["add_shard"]()
    ((created_at,),) = yield _SQL["insert_organization"](
        id=next_,
        name=asked.name,
        policy=asked.policy,
        max_boxes=asked.max_boxes,
        priority_aging=asked.priority_aging,
        lost_retries=asked.lost_retries,
        shard=shard,
    )
    # The leader of the shard has loaded it without an organization.
    yield add_commands(shard, [inbox.written(inbox.Reload())])
    return attrs.evolve(asked, id=OrganizationId(next_), shard=shard, created_at=created_at)


def set_organization(wanted: Organization) -> Steps[None]:
    """Replace the settings of the organization with this id, and notify its leader."""
    changed = yield _SQL["set_organization"](
        id=wanted.id,
        policy=wanted.policy,
        max_boxes=wanted.max_boxes,
        priority_aging=wanted.priority_aging,
        lost_retries=wanted.lost_retries,
    )
    if not changed:
        raise Conflict(f"the organization {wanted.name} was deleted")
    ((shard,),) = changed
    yield add_commands(shard, [inbox.written(inbox.Reload())])


def delete_organization(name: str) -> Steps[bool]:
    yield _SQL["lock_organizations"]()
    found = yield _SQL["named"](name=name)
    if not found:
        return False
    one = rows.organization(found[0])
    if one.id == DEFAULT_ORGANIZATION:
        raise Conflict(f"{name} is the default organization, which is always there")
    yield _SQL["lock_organization"](id=one.id)
    named = yield _SQL["projects_of_organization"](organization=one.id)
    if (yield _SQL["unfinished_of_organization"](organization=one.id)):
        raise Conflict(f"{name} has unfinished workloads: stop them, or let them finish")
    for (project,) in named:
        yield from projects.delete_project(short_name(project), one.id)
    yield _SQL["revoke_tokens_of_organization"](organization=one.id)
    yield _SQL["bury_organization"](id=one.id)
    yield add_commands(one.shard, [inbox.written(inbox.Reload())])
    return True

"""A cache of projects with parsed settings, and the rules for all caches of a node.

What a node may cache
---------------------

Other nodes also write to the database. So a node caches something only if one of these is true:

1. It never changes: the first answer for an idempotency key (``recent``), a page's static files.
2. The transaction that uses it checks it, by a version or an id. Here, a project's settings and the
   plan are cached: ``Store.submit`` refuses a submission that was checked against another version,
   or that exceeds the plan (``ProjectChanged``); then both are read again. Before a submission is
   refused, or a cached answer is returned, the settings are read again too.
3. It is read again within seconds: which tokens are valid (``known_tokens``, 0.9 s), which nodes
   lead and are alive (``cluster.elected``), whether external workers are allowed (``mixing``, 2 s).
4. The history shows when it is outdated: an engine's books, a mirror of them, the position of the
   feed. They contain the number of their batch.

Everything else is read when it is needed. Every cache has a limit in bytes.
"""

import re
from collections import OrderedDict
from collections.abc import Callable

import attrs
import msgspec
from msgspec import structs

from boxsched.api.http.forms import PROJECT_NAME
from boxsched.api.http.not_found import no_such
from boxsched.api.messages import checks
from boxsched.api.messages.requests import ProjectSettings
from boxsched.api.submitting.branch_patterns import BranchGlobs, Compiler
from boxsched.model import DEFAULT_BOX_TYPE, DEFAULT_ORGANIZATION, OrganizationId
from boxsched.protocol.shards import Organization, Project
from boxsched.store.records import JobSpec
from boxsched.store.store import Store

KEPT_BYTES_AT_MOST = 32 << 20
BYTES_OF_TEXT = 6  # approximate memory of settings for each byte of their JSON
OVERHEAD_BYTES = 2_000

_NAME = re.compile(PROJECT_NAME)
_settings = msgspec.json.Decoder(ProjectSettings)


@attrs.frozen
class Known:
    project: Project
    organization: Organization
    settings: ProjectSettings
    jobs: tuple[JobSpec, ...]  # the jobs of a build without its own
    globs: BranchGlobs

    @classmethod
    def of(
        cls,
        project: Project,
        organization: Organization,
        settings: ProjectSettings,
        globs: BranchGlobs,
    ) -> "Known":
        jobs = checks.specs(settings.jobs, DEFAULT_BOX_TYPE)
        return cls(project, organization, settings, jobs, globs)

    @property
    def plan(self) -> int | None:
        """Its organization's limit of Boxes."""
        return self.organization.max_boxes

    def with_servers(self, included: Callable[[str], bool]) -> "Known":
        """Return it as if it had only these servers."""
        servers = {n: one for n, one in self.settings.servers.items() if included(n)}
        if len(servers) == len(self.settings.servers):
            return self
        return attrs.evolve(self, settings=structs.replace(self.settings, servers=servers))

    @property
    def version(self) -> tuple[int, int, int | None]:
        """The versions of the stored values that it was made from."""
        return self.project.id, self.project.version, self.plan

    @property
    def size(self) -> int:
        """The approximate memory in bytes."""
        return OVERHEAD_BYTES + BYTES_OF_TEXT * len(self.project.settings) + self.globs.size


def settings_of(project: Project) -> ProjectSettings:
    return parsed(project.settings)


def parsed(settings: str) -> ProjectSettings:
    """Parse settings from the store."""
    return _settings.decode(settings)


def is_project_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


class KnownProjects:
    """Looks projects up and caches them; see the module for the rules."""

    def __init__(self, store: Store, at_most: int = KEPT_BYTES_AT_MOST) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[OrganizationId, str], Known] = OrderedDict()
        self._bytes = 0
        self._at_most = at_most
        self._compiler = Compiler()

    async def get(self, name: str, organization: OrganizationId = DEFAULT_ORGANIZATION) -> Known:
        """Return the project as it was last read. Raises NotFound."""
        known = self._kept.get((organization, name))
        if known is None:
            return await self.fresh(name, organization)
        self._kept.move_to_end((organization, name))
        return known

    def remembered(
        self, name: str, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> Known | None:
        """Return the project as it was last read, if it is still cached."""
        return self._kept.get((organization, name))

    async def fresh(self, name: str, organization: OrganizationId = DEFAULT_ORGANIZATION) -> Known:
        """Read the project from the store and return it. Raises NotFound."""
        self.forget(name, organization)
        of = await self._store.organization(organization) if is_project_name(name) else None
        project = None if of is None else await self._store.project(name, organization)
        if of is None or project is None:
            raise no_such("project", name)
        settings = settings_of(project)
        known = Known.of(project, of, settings, await self._compiler.compiled(settings))
        self.forget(name, organization)  # another look-up may have cached an old one meanwhile
        self._kept[organization, name] = known
        self._bytes += known.size
        while self._bytes > self._at_most:
            self._drop(next(iter(self._kept)))
        return known

    def forget(self, name: str, organization: OrganizationId = DEFAULT_ORGANIZATION) -> None:
        self._drop((organization, name))

    def _drop(self, key: tuple[OrganizationId, str]) -> None:
        known = self._kept.pop(key, None)
        if known is not None:
            self._bytes -= known.size

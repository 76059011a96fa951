"""Projects as submissions need them: settings parsed and jobs shaped once a version; and the rule
for all that a node remembers.

What a node may remember
------------------------

Other nodes write, too. So a node remembers something only where one of these holds:

1. It never changes: the first answer under an idempotency key (``recent``), a page's static files.
2. The transaction that relies on it checks it, by a version or an id. A project's settings and the
   plan are remembered here: ``Store.submit`` refuses what was checked against another version, or
   asks for more than the plan (``ProjectChanged``), and then it is read anew. Nothing is refused,
   and no remembered answer is given, by settings from memory: they are read anew first.
3. It is asked for again within seconds: which tokens hold (``known_tokens``, 0.9 s), who leads and
   who is alive (``cluster.elected``), whether external workers may come in (``mixing``, 2 s).
4. The history tells when it is old: an engine's books, a mirror of them, the feed's place. They
   name the batch that they are of.

All else is read when it is needed. Whatever is remembered has a limit in bytes.
"""

import re
from collections import OrderedDict

import attrs
import msgspec

from boxsched.api.http.absent import no
from boxsched.api.http.forms import PROJECT_NAME
from boxsched.api.messages import checks
from boxsched.api.messages.requests import ProjectSettings
from boxsched.api.submitting.branch_patterns import BranchGlobs, Compiler
from boxsched.node.node import DEFAULT_BOX_TYPE
from boxsched.protocol.shards import Project
from boxsched.store.records import JobSpec
from boxsched.store.store import Store

KEPT_BYTES_AT_MOST = 32 << 20
BYTES_OF_TEXT = 6  # that settings take in memory, for each byte of their text: about
OVERHEAD_BYTES = 2_000

_NAME = re.compile(PROJECT_NAME)
_settings = msgspec.json.Decoder(ProjectSettings)


@attrs.frozen
class Known:
    project: Project
    plan: int | None  # of its organization
    settings: ProjectSettings
    jobs: tuple[JobSpec, ...]  # of a build that brings none
    globs: BranchGlobs

    @classmethod
    def of(
        cls, project: Project, plan: int | None, settings: ProjectSettings, globs: BranchGlobs
    ) -> "Known":
        jobs = checks.specs(settings.jobs, DEFAULT_BOX_TYPE)
        return cls(project, plan, settings, jobs, globs)

    @property
    def version(self) -> tuple[int, int, int | None]:
        """What it was made from."""
        return self.project.id, self.project.version, self.plan

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return OVERHEAD_BYTES + BYTES_OF_TEXT * len(self.project.settings) + self.globs.size


def settings_of(project: Project) -> ProjectSettings:
    return parsed(project.settings)


def parsed(settings: str) -> ProjectSettings:
    """Settings as the store has them."""
    return _settings.decode(settings)


def is_project_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


class KnownProjects:
    """Looks projects up, and remembers what it found; see the module for how far to trust that."""

    def __init__(self, store: Store, at_most: int = KEPT_BYTES_AT_MOST) -> None:
        self._store = store
        self._kept: OrderedDict[str, Known] = OrderedDict()
        self._bytes = 0
        self._at_most = at_most
        self._compiler = Compiler()

    async def get(self, name: str) -> Known:
        """As it was when it was read last; raises NotFound."""
        known = self._kept.get(name)
        if known is None:
            return await self.fresh(name)
        self._kept.move_to_end(name)
        return known

    def remembered(self, name: str) -> Known | None:
        """As it was when it was read last, if it is still remembered."""
        return self._kept.get(name)

    async def fresh(self, name: str) -> Known:
        """As it is in the store now; raises NotFound."""
        self.forget(name)
        project = await self._store.project(name) if is_project_name(name) else None
        if project is None:
            raise no("project", name)
        plan = (await self._store.organization()).max_boxes
        settings = settings_of(project)
        known = Known.of(project, plan, settings, await self._compiler.compiled(settings))
        self.forget(name)  # another look-up may have kept one meanwhile
        self._kept[name] = known
        self._bytes += known.size
        while self._bytes > self._at_most:
            self.forget(next(iter(self._kept)))
        return known

    def forget(self, name: str) -> None:
        known = self._kept.pop(name, None)
        if known is not None:
            self._bytes -= known.size

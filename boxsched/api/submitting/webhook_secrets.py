"""Open a project's webhook secrets: the current one and, for a time, the previous one.

A cached secret is enough to accept a delivery, because the transaction that stores it checks the
version of the project's settings. Before a refusal the secrets are read again. Unknown senders can
cause these reads, so simultaneous ones share one query. How long a refusal takes must not tell
whether there is a project (tests/bench/refused_deliveries.py): so a secret is unsealed only once.
"""

import asyncio
import logging
from collections.abc import Sequence

from boxsched.api.submitting.known_projects import KnownProjects, is_project_name
from boxsched.errors import SecretsUnusable
from boxsched.gather import Gather
from boxsched.model import OrganizationId, ProjectId, full_name
from boxsched.node.node import Node
from boxsched.secrets.owners import of_project
from boxsched.store.delivery_records import WebhookSecrets
from boxsched.store.steps.secrets import WEBHOOK_SECRET

log = logging.getLogger(__name__)

NAMES_AT_ONCE = 100  # projects in one query
LOGGED_AT_MOST = 1_000  # projects whose unusable secret is logged, once each
OPENED_AT_MOST = 10_000  # secrets that are kept as they were opened


class KnownSecrets:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._known = known
        self._logged: set[ProjectId] = set()
        self._plain: dict[tuple[ProjectId, str], str | None] = {}  # by sealed text
        self._ring = node.vault.ring  # whose keys have opened them
        self._queries: Gather[str, WebhookSecrets | None] = Gather(
            self._look_up, at_most=NAMES_AT_ONCE
        )

    def remembered(self, organization: OrganizationId, name: str) -> tuple[str, ...] | None:
        """Return the secrets as they were last read; None if the project is not cached."""
        known = self._known.remembered(name, organization)
        if known is None:
            return None
        its = known.project
        stored = WebhookSecrets(
            its.id, its.webhook_secret, its.webhook_secret_before, its.webhook_secret_until
        )
        return self._opened(stored)

    async def fresh(self, organization: OrganizationId, name: str) -> tuple[str, ...]:
        """Read the secrets from the store; an empty tuple if the project does not exist."""
        if not is_project_name(name):
            return ()
        stored = await asyncio.shield(self._queries.add(full_name(organization, name)))
        return () if stored is None else self._opened(stored)

    def _opened(self, stored: WebhookSecrets) -> tuple[str, ...]:
        """Return the secrets that are valid now and that this node can open."""
        texts = [stored.now]
        if stored.until is not None and self._node.clock.now() < stored.until:
            texts.append(stored.before)
        opened = [self._open(stored.project, text) for text in texts if text is not None]
        return tuple([plain for plain in opened if plain is not None])

    def _open(self, project: ProjectId, text: str) -> str | None:
        """Open a secret; None if this node has no key for it, which is logged once per project."""
        vault = self._node.vault
        if vault.ring is not self._ring or len(self._plain) >= OPENED_AT_MOST:
            self._plain.clear()
            self._ring = vault.ring
        try:
            return self._plain[project, text]
        except KeyError:
            plain = None
        try:
            plain = vault.opened(of_project(project), WEBHOOK_SECRET, 1, text)
        except SecretsUnusable as error:
            if project not in self._logged and len(self._logged) < LOGGED_AT_MOST:
                self._logged.add(project)
                log.warning("webhooks of project %d are refused: %s", project, error.message)
        self._plain[project, text] = plain
        return plain

    async def _look_up(self, names: Sequence[str]) -> list[WebhookSecrets | None]:
        found = await self._node.store.webhook_secrets(names)
        return [found.get(name) for name in names]

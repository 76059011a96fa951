"""Note in the history which workers were refused because of their tokens or identities.

Somebody may try again and again with one token, so a node notes each kind of refusal of a token at
most once in REPEAT_SECONDS, and none while a node of an earlier version may lead, which would set
the command aside.
"""

import asyncio
from collections.abc import Awaitable, Callable

from boxsched.errors import StoreAway
from boxsched.model import DEFAULT_ORGANIZATION, OrganizationId
from boxsched.protocol import inbox
from boxsched.store.store import Store

REPEAT_SECONDS = 60.0
KEPT = 1_000  # tokens and kinds of refusals
SCHEMA = 8  # what programs know that have the command

NOTED = frozenset({"token_taken", "bound_to_another", "no_place", "conflict", "in_use"})


class RefusalLog:
    def __init__(self, store: Store, ask: Callable[[int, inbox.Command], Awaitable[None]]) -> None:
        self._store = store
        self._ask = ask
        self._noted: dict[tuple[str, str], float] = {}  # when a refusal was last noted

    async def note(
        self, refused: inbox.RefusedWorker, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> None:
        """Note a refusal in the organization's history, unless the same was noted just before.
        Waits for no outage.
        """
        if refused.code not in NOTED or not self._is_due((refused.token, refused.code)):
            return
        try:
            nodes = await self._store.nodes()
            its = await self._store.organization(organization)
            if its is not None and all((node.schema or 0) >= SCHEMA for node in nodes):
                await self._ask(its.shard, refused)
        except StoreAway:
            self._noted.pop((refused.token, refused.code), None)  # the next try notes it

    def _is_due(self, key: tuple[str, str]) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._noted.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._noted.pop(key, None)
        self._noted[key] = now
        while len(self._noted) > KEPT:
            del self._noted[next(iter(self._noted))]
        return True

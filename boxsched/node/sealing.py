"""Seal stored values again with the first key, or seal values that are still plain."""

import asyncio
import logging
from collections.abc import Callable

import attrs

from boxsched.errors import SecretsUnusable, StoreAway
from boxsched.model import ProjectId
from boxsched.secrets.owners import of_project
from boxsched.secrets.ring import VARIABLE
from boxsched.secrets.vault import PREFIX, Vault, is_sealed, key_of
from boxsched.store.steps.secrets import (
    FORMER,
    GIT_CREDENTIALS,
    OUTGOING,
    PLACES,
    SECRET,
    WEBHOOK_SECRET,
    SealedText,
)
from boxsched.store.store import Store

BATCH = 100  # values in one transaction
RETRY_SECONDS = 5.0
SHOWN_OF_A_KEY = 16  # characters of its id
NO_KEY = "-"  # the id of no key
# How users know the places of sealed texts.
FIELDS = {
    SECRET: "secrets",
    WEBHOOK_SECRET: "webhook_secret",
    FORMER: "webhook_secret",
    GIT_CREDENTIALS: "git_credentials",
    OUTGOING: "statuses and hooks",
}
NO_PROJECT = ProjectId(0)  # before the first project

_log = logging.getLogger(__name__)


@attrs.frozen
class Cursor:
    """The last value of the previous step: the index of its place in PLACES, project and name."""

    place: int = 0
    project: ProjectId = NO_PROJECT
    name: str = ""


@attrs.frozen
class SealingStep:
    """The result of one step. ``next``: where the next one begins; None: this was the last."""

    resealed: int
    unusable: tuple[SealedText, ...]  # values that this node cannot open
    next: Cursor | None


@attrs.frozen
class Unopened:
    """What a node cannot open: the beginnings of the keys' ids, and the settings."""

    keys: set[str] = attrs.field(factory=set)
    fields: set[str] = attrs.field(factory=set)


class Sealing:
    """Processes all values in batches; each batch is a transaction.

    Values that are sealed with the first key are skipped, so an interrupted run can be repeated.
    """

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def rotate(self, after: Cursor) -> SealingStep:
        """Seal the next values with the first key. Raises SecretsUnusable if there is no key."""
        _ = self._vault.first  # raises
        return await self._step(after, lambda text: True)

    async def run(self) -> None:
        """At a node's start, seal plain values of earlier versions and warn of missing keys."""
        unopened = await self.adopt()
        if unopened.keys:
            has = "has no key for secrets" if self._vault.ring is None else "lacks a key"
            _log.warning(
                "this node %s, and the database has values that are sealed (%s; keys %s): jobs, "
                "webhooks and notifications that need them fail here. Give this node the keys of "
                "the others with --secrets-key-file FILE or %s, and start it again",
                has, ", ".join(sorted(unopened.fields)), ", ".join(sorted(unopened.keys)), VARIABLE,
            )  # fmt: skip
        await asyncio.Event().wait()  # a node's task must not end

    async def adopt(self) -> Unopened:
        """Seal plain values; return what this node cannot open. Without a key nothing is sealed."""
        unopened = Unopened()
        after: Cursor | None = Cursor()
        while after is not None:
            try:
                step = await self._step(after, self._may_adopt)
            except StoreAway:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for one in step.unusable:
                unopened.keys.add(key_of(one.text)[:SHOWN_OF_A_KEY])
                unopened.fields.add(FIELDS[one.place])
            after = step.next
        return unopened

    def _may_adopt(self, text: str) -> bool:
        return self._vault.ring is not None and not is_sealed(text)

    async def _step(self, after: Cursor, wanted: Callable[[str], bool]) -> SealingStep:
        place = PLACES[after.place]
        prefix = f"{PREFIX}{NO_KEY if self._vault.ring is None else self._vault.first}:"
        found = await self._store.sealed_texts(place, (after.project, after.name), prefix, BATCH)
        texts: list[tuple[SealedText, str]] = []
        unusable: list[SealedText] = []
        for one in found:
            if not wanted(one.text):
                if is_sealed(one.text) and not self._vault.has_key_of(one.text):
                    unusable.append(one)
                continue
            try:
                texts.append((one, self._sealed_again(one)))
            except SecretsUnusable:
                unusable.append(one)
        done = await self._store.reseal(texts) if texts else 0
        return SealingStep(done, tuple(unusable), _behind(after, found))

    def _sealed_again(self, one: SealedText) -> str:
        owner = of_project(one.project)
        plain = self._vault.opened(owner, one.name, one.version, one.text)
        return self._vault.seal(owner, one.name, one.version, plain)


def _behind(after: Cursor, found: list[SealedText]) -> Cursor | None:
    if len(found) == BATCH:
        return Cursor(after.place, found[-1].project, found[-1].name)
    return Cursor(after.place + 1) if after.place + 1 < len(PLACES) else None

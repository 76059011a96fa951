"""The clients' requests and answers, on disk before the next request.

Every request has an idempotency key, which its workload carries as its message. So the result of a
request is known even if no answer came.
"""

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    key: str
    path: str
    body: Mapping[str, Any]


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    key: str
    node: str
    status: int
    id: str | None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Asked | Answered).decode


class Journal:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        self._syncing = asyncio.Lock()
        self._written = 0
        self._synced = 0

    async def write(self, entry: Asked | Answered) -> None:
        """Return once the entry is on disk; others may continue meanwhile, and entries written then
        share the next fsync."""
        self._file.write(_encode(entry) + b"\n")
        self._written += 1
        mine = self._written
        async with self._syncing:
            if self._synced < mine:
                written = self._written
                self._file.flush()
                await asyncio.to_thread(os.fsync, self._file.fileno())
                self._synced = written

    def close(self) -> None:
        self._file.close()

    def read(self) -> "JournalSummary":
        summary = JournalSummary()
        for line in self._path.read_bytes().splitlines():
            summary.add(_decode(line))
        return summary


@attrs.define
class JournalSummary:
    """The whole journal: by key, the request, and the ids that were answered."""

    asked: dict[str, Asked] = attrs.field(factory=dict)
    ids: dict[str, set[str]] = attrs.field(factory=lambda: defaultdict(set))
    statuses: Counter[int] = attrs.field(factory=Counter)

    def add(self, entry: Asked | Answered) -> None:
        if isinstance(entry, Asked):
            self.asked[entry.key] = entry
            return
        self.statuses[entry.status] += 1
        if entry.id is not None:
            self.ids[entry.key].add(entry.id)

    @property
    def unknown(self) -> list[str]:
        return [key for key in self.asked if key not in self.ids]

    def violations(self, workloads: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Check V12 and V13; ``workloads`` are all existing ones, by id."""
        found = []
        by_key: dict[str, set[str]] = defaultdict(set)
        for id_, workload in workloads.items():
            by_key[workload["message"]].add(id_)
        for key in self.asked:
            answered, there = self.ids.get(key, set()), by_key.get(key, set())
            if len(answered) > 1 or len(there) > 1:
                found.append(f"{key}: answered {sorted(answered)}, there are {sorted(there)}")
            if not answered <= there:
                found.append(f"{key}: {sorted(answered - there)} was answered, and is lost")
        for id_, workload in workloads.items():
            if workload["state"] != "finished":
                found.append(f"{id_} never ended: {workload}")
        return found

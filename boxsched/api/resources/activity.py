"""The data of the Activity Monitor: all unfinished workloads by phase, in order, and Box counts.

With ten thousand rows, an answer takes some tenths of a second. So one answer is made for all
simultaneous requests, in slices with other work in between. After an answer there is a pause of
REST_TIMES its duration. A request never gets an answer that was begun before the request, so the
answer contains everything that the caller did before.
"""

import asyncio
import hashlib
import heapq
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import msgspec
from aiohttp import web
from msgspec import UNSET

from activity_monitor.packing import packed
from boxsched.api.auth.actor import CALLER
from boxsched.api.auth.scope import WHOLE, Scope
from boxsched.api.http import packing, replies
from boxsched.api.http.times import rfc3339
from boxsched.api.messages import answers
from boxsched.api.resources.in_scope import has
from boxsched.engine.capacity import capacity
from boxsched.engine.why import Sentences
from boxsched.feed import EventCursor
from boxsched.model import WorkloadId, queue_key
from boxsched.node.node import Node
from boxsched.pace import LoopPace
from boxsched.said_times import said_time
from boxsched.states import State
from boxsched.store.records import DatabaseHistory, Workload

FINISHED_SHOWN = 30
FINISHED_LOOKED = 500  # of all projects, for a token that is limited to some
SCOPES_KEPT = 100
NOTICE_SECONDS = 7 * 86_400.0
REST_TIMES = 1.0
SORTED_AT_ONCE = 5_000  # rows; sorting them takes about 3 ms


class BoxCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """``total`` and ``busy`` include ``away`` Boxes, whose worker is not connected."""

    total: int
    busy: int
    away: int = 0
    away_busy: int = 0


class Notice(msgspec.Struct, frozen=True):
    """A notice to users about the database."""

    at: str
    text: str


class ActivityAnswer(msgspec.Struct, frozen=True):
    """``notice``: for a week after a failover or a restored backup.

    ``cursor``: an event's id. Some later events may already be included in this answer.
    """

    boxes: BoxCounts
    upcoming: tuple[answers.WorkloadRow, ...]
    blocked: tuple[answers.WorkloadRow, ...]
    running: tuple[answers.WorkloadRow, ...]
    finished: tuple[answers.WorkloadRow, ...]
    notice: Notice | None
    cursor: str


@attrs.define
class Made:
    """An answer that several requests share."""

    body: bytes = attrs.field(repr=False)
    etag: str
    _packing: asyncio.Task[bytes] | None = attrs.field(default=None, init=False)

    async def packed(self) -> bytes:
        """Return the compressed answer; it is compressed once, at the first call."""
        if self._packing is None:
            work = asyncio.to_thread(packed, self.body)
            self._packing = asyncio.create_task(work, name="activity, packed")
        return await asyncio.shield(self._packing)


class ActivityRoutes:
    """The answers of all callers; those whose tokens have the same limits share theirs."""

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._whole = SharedActivity(node, clock)
        self._limited: OrderedDict[Scope, SharedActivity] = OrderedDict()
        self._turn = asyncio.Lock()  # of the answers with limits

    async def show(self, request: web.Request) -> web.Response:
        made = await self._of(request[CALLER].scope).made()
        if any(tag.value == made.etag for tag in request.if_none_match or ()):
            response = web.Response(status=304)
        else:
            response = replies.json_bytes(made.body)
            if packing.wants_gzip(request):
                packing.set_packed(response, await made.packed())
        # Weak, because the compressed and the plain answer have the same tag.
        response.headers["ETag"] = f'W/"{made.etag}"'
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = "private, no-cache"
        return response

    def _of(self, scope: Scope) -> "SharedActivity":
        if scope == WHOLE:
            return self._whole
        found = self._limited.pop(scope, None)
        if found is None:
            found = SharedActivity(self._node, self._clock, scope, self._turn)
        self._limited[scope] = found  # at the end, as the last one used
        if len(self._limited) > SCOPES_KEPT:
            self._limited.popitem(last=False)
        return found


class SharedActivity:
    """The answer for one scope. ``turn``: answers with the same one are not made in parallel."""

    def __init__(
        self,
        node: Node,
        clock: Callable[[], float],
        scope: Scope = WHOLE,
        turn: asyncio.Lock | None = None,
    ) -> None:
        self._node = node
        self._clock = clock
        self._scope = scope
        self._turn = turn or asyncio.Lock()
        self._next: asyncio.Task[Made] | None = None  # the next answer: requested, but not begun
        self._last: asyncio.Task[Made] | None = None
        self._rest_until = 0.0

    def _notice(self, history: DatabaseHistory | None) -> Notice | None:
        return None if history is None else notice_of(history, self._node.clock.now())

    async def made(self) -> Made:
        """Return the next answer, which all requests share that arrive before it begins."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._last), name="activity")
        # Shielded, so that one cancelled request does not cancel the answer for the others.
        return await asyncio.shield(self._next)

    async def _after(self, last: asyncio.Task[Made] | None) -> Made:
        if last is not None:
            await asyncio.wait({last})
        await asyncio.sleep(max(0.0, self._rest_until - self._clock()))
        async with self._turn:
            return await self._begun()

    async def _begun(self) -> Made:
        self._last, self._next = self._next, None  # later requests get another answer
        began = self._clock()
        try:
            return await self._make()
        finally:
            now = self._clock()
            self._rest_until = now + REST_TIMES * (now - began)

    async def _make(self) -> Made:
        # 1. Read the rows and their position in the history in one snapshot.
        scope = self._scope
        looked = FINISHED_SHOWN if scope.whole else FINISHED_LOOKED
        snapshot = await self._node.store.activity(looked, scope.organization.id)
        finished = [one for one in snapshot.finished if has(scope, one)][:FINISHED_SHOWN]
        unfinished = [one for one in snapshot.unfinished if has(scope, one)]
        notice = self._notice(snapshot.history)
        shard = scope.organization.shard
        cursor = str(EventCursor({shard: snapshot.places[shard]}))
        # 2. Find out why rows wait. The books may be from another moment: use a reason only if
        #    the row has the same state in them.
        books = await self._node.books(scope.organization.shard)
        reasons = self._node.reasons(books, scope.has)
        counts = BoxCounts(**attrs.asdict(capacity(books.core)))  # as events count them
        # 3. Divide the rows by phase and sort them; in a thread, because sorting many takes long.
        aging = books.organization.priority_aging
        upcoming, blocked, running = await asyncio.to_thread(_by_phase, unfinished, aging)
        flaky = snapshot.flaky
        # Rows are then freed one by one: freeing all at once holds the loop.
        del snapshot, unfinished
        # 4. Encode them as JSON, in slices.
        parts = [b'{"boxes":' + replies.encode(counts)]
        for name, rows in (
            (b"upcoming", upcoming),
            (b"blocked", blocked),
            (b"running", running),
            (b"finished", finished),
        ):
            parts.append(b',"' + name + b'":')
            parts += await _rows(rows, reasons, flaky, self._node.pace)
        parts.append(b',"notice":' + replies.encode(notice))
        return await asyncio.to_thread(_made, parts, cursor)


def _made(parts: list[bytes], cursor: str) -> Made:
    """Join the parts. Call it in a thread: the answer may have many megabytes."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    parts.append(b',"cursor":"' + cursor.encode() + b'"}')
    return Made(b"".join(parts), digest.hexdigest())


def notice_of(history: DatabaseHistory, now: float) -> Notice | None:
    if now - history.began_at > NOTICE_SECONDS:
        return None
    at = said_time(history.began_at)
    if history.restored:
        what = f"A backup of the database was restored at {at}: what was stored after the backup"
    else:
        what = (
            f"The database failed over at {at}, to timeline {history.timeline}: what was stored in "
            "the last moments before"
        )
    return Notice(
        rfc3339(history.began_at),
        f"{what} may be missing, builds and results that were answered included. Submit again what "
        "is not here; look what a deploy did before you repeat it.",
    )


def _by_phase(
    unfinished: Sequence[Workload], aging: float | None
) -> tuple[list[Workload], list[Workload], list[Workload]]:
    upcoming = [one for one in unfinished if one.state is State.REGISTERED]
    blocked = [one for one in unfinished if one.state is State.QUEUED]
    running = [one for one in unfinished if one.started_at is not None]
    blocked = _sorted(blocked, lambda one: queue_key(one.priority, one.created_at, one.id, aging))
    running = _sorted(running, lambda one: (one.started_at or 0.0, one.id))
    return upcoming, blocked, running


def _sorted(rows: list[Workload], key: Callable[[Workload], Any]) -> list[Workload]:
    """Sort in parts, because no other thread runs while Python sorts a list."""
    parts = [
        sorted(rows[n : n + SORTED_AT_ONCE], key=key) for n in range(0, len(rows), SORTED_AT_ONCE)
    ]
    return list(heapq.merge(*parts, key=key))


async def _rows(
    rows: list[Workload], why: Sentences, flaky: frozenset[WorkloadId], pace: LoopPace
) -> list[bytes]:
    """Encode the rows, and empty the list."""

    def shape(one: Workload) -> answers.WorkloadRow:
        return answers.row(one, why(one.id, one.state) or UNSET, flaky=one.id in flaky)

    return await answers.encoded_parts(_consumed(rows), shape, lambda one: 1, pace)


def _consumed(rows: list[Workload]) -> Iterator[Workload]:
    rows.reverse()
    while rows:
        yield rows.pop()

"""Pages of workloads: a walk down the index that serves the filter best, within bounds.

No request looks at more than LOOKED_AT_MOST rows, however many there are and however few of them
are asked for. So a page may be short, or empty, with more behind it: it says where to go on.
"""

from collections.abc import Mapping

import msgspec

from boxsched.errors import Invalid
from boxsched.model import Kind, WorkloadId
from boxsched.states import State
from boxsched.store.blocks import Block, Steps, load
from boxsched.store.steps import reading
from boxsched.store.values import WorkloadFilter, WorkloadPage

_SQL = load("pages.sql")

LOOKED_AT_MOST = 10_000  # rows of one request
WALK_AT_MOST = 2_000  # rows of one statement
WIDENED = 8  # each walk of a request is so many times as long as the one before
JOBS_AT_MOST = 2_000  # of one page; the first workload's come anyway
_BEHIND_ALL = 1 << 62  # no id is as great

_ids = msgspec.json.Decoder(list[tuple[int]])


def workloads(wanted: WorkloadFilter) -> Steps[WorkloadPage]:
    """Newest first; raises Invalid for a cursor of another list."""
    if wanted.result is not None and wanted.state not in (None, State.FINISHED):
        return WorkloadPage((), None)  # only what has finished has a result
    walk = _walk(wanted)
    ids, on = yield from _found(walk, wanted, (yield from _beginning(walk, wanted)))
    if len(ids) > wanted.limit:
        ids, on = ids[: wanted.limit], ids[wanted.limit - 1]
    found = yield from reading.listed(ids, JOBS_AT_MOST)
    return WorkloadPage(tuple(found), on if len(found) == len(ids) else found[-1].id)


def _walk(wanted: WorkloadFilter) -> Block:
    """Whatever leaves the fewest rows, as far as one can tell beforehand."""
    unfinished = wanted.state not in (None, State.FINISHED)
    if wanted.project is not None:
        if wanted.branch is not None:
            return _SQL["walk_branch_of_project"]
        if wanted.server is not None:
            return _SQL["walk_server_of_project"]
        return _SQL["walk_unfinished_of_project" if unfinished else "walk_project"]
    if wanted.branch is not None:
        return _SQL["walk_branch"]
    if wanted.server is not None:
        return _SQL["walk_server"]
    if unfinished:
        return _SQL["walk_unfinished"]
    if wanted.result is not None:
        return _SQL["walk_result"]
    return _SQL["walk_all" if wanted.kind in (None, Kind.BUILD) else "walk_kind"]


def _beginning(walk: Block, wanted: WorkloadFilter) -> Steps[int]:
    """What the walk goes on behind: an id, or a number in the project."""
    if wanted.before is None:
        return _BEHIND_ALL
    if walk is not _SQL["walk_project"]:
        return wanted.before
    found = yield _SQL["number_of"](id=wanted.before, project=wanted.project)
    if not found:
        raise Invalid("this cursor is of another list: take it with its own filters", "cursor")
    number: int = found[0][0]
    return number


def _found(
    walk: Block, wanted: WorkloadFilter, before: int
) -> Steps[tuple[list[WorkloadId], WorkloadId | None]]:
    """One more than the page has at least, if they are within bounds; the end of the walk."""
    asked: Mapping[str, object] = {
        "project": wanted.project,
        "branch": wanted.branch,
        "server": wanted.server,
        "kind": wanted.kind,
        "state": wanted.state,
        "result": wanted.result,
    }
    ids: list[WorkloadId] = []
    last: WorkloadId | None = None
    looked, length = 0, wanted.limit + 1
    while len(ids) <= wanted.limit and looked < LOOKED_AT_MOST:
        ((id_, number, count, text),) = yield walk(**asked, before=before, looked=length)
        ids += sorted((WorkloadId(one) for (one,) in _ids.decode(text or "[]")), reverse=True)
        if count < length:
            return ids, None
        before, last = number if walk is _SQL["walk_project"] else id_, WorkloadId(id_)
        looked += count
        length = min(WIDENED * length, WALK_AT_MOST, max(1, LOOKED_AT_MOST - looked))
    return ids, last

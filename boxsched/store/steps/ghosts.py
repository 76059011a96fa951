"""Ghosts: what workers hold that is not theirs for the scheduler (``protocol.ghosts``)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from boxsched.model import JobId, WorkerId
from boxsched.protocol import inbox
from boxsched.protocol.ghosts import Ghost, Haunted, HeldAttempt, Lease
from boxsched.protocol.reasons import ended_unreported
from boxsched.store import rows
from boxsched.store.blocks import Steps, load
from boxsched.store.mapping import mapper
from boxsched.store.steps.commands import add_commands

_SQL = load("ghosts.sql")

_Key = tuple[WorkerId, int, int]  # worker, job, lease token


class _Known(NamedTuple):
    worker: int
    id: int
    job: int
    lease_token: int
    running: bool
    killed_by: str | None


_known = mapper(_Known, _SQL["ghosts_of"].returns, running=bool)
_ghost = mapper(
    Ghost, _SQL["ghosts"].returns, build=bool, running=bool, connected=bool, job_begun=bool
)


def note_ghosts(haunted: Sequence[Haunted]) -> Steps[dict[WorkerId, tuple[Lease, ...]]]:
    """Store which ghosts these workers have; return those that each must end now.

    A worker that has connected again is left out.
    """
    numbers = sorted({(one.connection.worker, one.connection.number) for one in haunted})
    current = {worker for (worker,) in (yield _SQL["lock_haunted"].rows(numbers))}
    found = [_known(row) for row in (yield _SQL["ghosts_of"].rows(numbers))]
    before: dict[_Key, _Known] = {
        (WorkerId(one.worker), one.job, one.lease_token): one for one in found
    }
    now: dict[_Key, HeldAttempt] = {
        (each.connection.worker, *held.lease): held
        for each in haunted
        if each.connection.worker in current
        for held in each.held
    }
    yield _SQL["set_notes"].rows(
        sorted(
            (one.connection.worker, rows.json_text(one.notes) if one.notes else None)
            for one in haunted
            if one.connection.worker in current
        )
    )
    settled = yield from _settled(now.values())
    fresh = [
        (key[0], held.job, held.attempt, held.lease_token, held.build, held.running)
        for key, held in now.items()
        if key not in before and held.lease not in settled
    ]
    yield _SQL["insert_ghosts"].rows(sorted(fresh))
    yield _SQL["ghosts_ended"].rows(
        sorted((one.id,) for key, one in before.items() if one.running and _ended(now.get(key)))
    )
    yield _SQL["drop_ghosts"].rows(
        sorted((one.id,) for key, one in before.items() if key not in now or key[1:] in settled)
    )
    ends: dict[WorkerId, list[Lease]] = {}
    for key, held in now.items():
        known = before.get(key)
        if held.lease in settled or (known is not None and known.killed_by is not None):
            ends.setdefault(key[0], []).append(held.lease)
    return {worker: tuple(leases) for worker, leases in ends.items()}


def _ended(held: HeldAttempt | None) -> bool:
    return held is not None and not held.running


def _settled(held: Iterable[HeldAttempt]) -> Steps[set[Lease]]:
    """Return the ended attempts whose reports were applied: their workers did not get the answer.

    Nothing is left to decide about these.
    """
    ended = {one.lease for one in held if not one.running}
    jobs = yield _SQL["jobs_of_ghosts"].rows(sorted({(job,) for job, _ in ended}))
    return {
        (job, token)
        for job, state, token, reason in jobs
        if (job, token) in ended and state == "finished" and not ended_unreported(reason)
    }


def ghosts() -> Steps[list[Ghost]]:
    return [_ghost(row) for row in (yield _SQL["ghosts"]())]


def kill_ghost(id_: int, by: str) -> Steps[bool]:
    """Decide to end a ghost. Return False if it is gone, or if somebody has decided that before."""
    decided = yield _SQL["kill_ghost"](id=id_, killed_by=by)
    for worker, job, attempt, token in decided:
        ((name, shard),) = yield _SQL["haunted_worker"](worker=worker)
        said = inbox.GhostKilled(worker, name, JobId(job), attempt, token, by)
        yield add_commands(shard, [inbox.written(said)])
    return bool(decided)

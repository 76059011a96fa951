"""Ghosts: what workers hold that is not theirs for the scheduler (``protocol.ghosts``)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from boxsched.model import JobId, OrganizationId, WorkerId, short_name
from boxsched.protocol import inbox
from boxsched.protocol.ghosts import Ghost, Haunted, HeldAttempt, Lease
from boxsched.protocol.inbox import GhostCause, GhostMove
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
    attempt: int
    lease_token: int
    build: bool
    running: bool
    killed_by: str | None

    @property
    def lease(self) -> Lease:
        return self.job, self.lease_token


_known = mapper(_Known, _SQL["ghosts_of"].returns, build=bool, running=bool)
_ghost = mapper(
    Ghost,
    _SQL["ghosts"].returns,
    worker_name=short_name,
    project=lambda name: None if name is None else short_name(name),
    build=bool,
    running=bool,
    connected=bool,
    job_begun=bool,
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
    jobs = yield from _jobs(now.values(), [one for key, one in before.items() if key not in now])
    settled = {held.lease for held in now.values() if jobs.has_settled(held)}
    fresh = {
        key: held for key, held in now.items() if key not in before and held.lease not in settled
    }
    yield _SQL["insert_ghosts"].rows(
        sorted(
            (key[0], held.job, held.attempt, held.lease_token, held.build, held.running)
            for key, held in fresh.items()
        )
    )
    ended = {key: one for key, one in before.items() if one.running and _ended(now.get(key))}
    yield _SQL["ghosts_ended"].rows(sorted((one.id,) for one in ended.values()))
    gone = {key: one for key, one in before.items() if key not in now or one.lease in settled}
    yield _SQL["drop_ghosts"].rows(sorted((one.id,) for one in gone.values()))
    yield from _tell(_moves(fresh, ended, gone, jobs))
    ends: dict[WorkerId, list[Lease]] = {}
    for key, held in now.items():
        known = before.get(key)
        if held.lease in settled or (known is not None and known.killed_by is not None):
            ends.setdefault(key[0], []).append(held.lease)
    return {worker: tuple(leases) for worker, leases in ends.items()}


def _ended(held: HeldAttempt | None) -> bool:
    return held is not None and not held.running


class _Jobs:
    """What the store knows of the jobs of ghosts."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        self._settled: set[Lease] = set()
        self._restored: set[Lease] = set()
        for job, state, token, reason, restored_from in rows:
            if state == "finished" and not ended_unreported(reason):
                self._settled.add((job, token))
            if restored_from is not None:
                self._restored.add((job, restored_from))

    def has_settled(self, held: HeldAttempt) -> bool:
        """Whether its report was applied: its worker did not get the answer. Nothing is left to
        decide.
        """
        return not held.running and held.lease in self._settled

    def cause(self, one: _Known) -> GhostCause:
        if one.killed_by is not None:
            return GhostCause.KILLED
        if one.lease in self._restored:
            return GhostCause.RESTORED
        return GhostCause.REPORTED if one.lease in self._settled else GhostCause.ENDED


def _jobs(held: Iterable[HeldAttempt], gone: Iterable[_Known]) -> Steps[_Jobs]:
    wanted = {(one.job,) for one in held if not one.running} | {(one.job,) for one in gone}
    return _Jobs((yield _SQL["jobs_of_ghosts"].rows(sorted(wanted))))


_Move = tuple[WorkerId, GhostMove, HeldAttempt | _Known, GhostCause | None, str | None]


def _moves(
    fresh: Mapping[_Key, HeldAttempt],
    ended: Mapping[_Key, _Known],
    gone: Mapping[_Key, _Known],
    jobs: _Jobs,
) -> Iterator[_Move]:
    """Yield what the history says of these ghosts."""
    for key, held in fresh.items():
        yield key[0], GhostMove.FOUND, held, None, None
    for key, one in ended.items():
        if key not in gone and one.killed_by is None:
            yield key[0], GhostMove.ENDED, one, None, None
    for key, one in gone.items():
        yield key[0], GhostMove.GONE, one, jobs.cause(one), one.killed_by


def _tell(moves: Iterable[_Move]) -> Steps[None]:
    """Put the changes into the inboxes of the workers' shards."""
    told: dict[WorkerId, list[_Move]] = {}
    for move in moves:
        told.setdefault(move[0], []).append(move)
    for worker, its in sorted(told.items()):
        ((name, shard),) = yield _SQL["haunted_worker"](worker=worker)
        ghosts = tuple(
            inbox.GhostMoved(
                *(move, short_name(name), one.job, one.attempt, one.lease_token, one.build),
                *(one.running and move is not GhostMove.ENDED, cause, by),
            )
            for _, move, one, cause, by in its
        )
        yield add_commands(shard, [inbox.written(inbox.Reports(worker, (), ghosts))])


def ghosts(organization: OrganizationId) -> Steps[list[Ghost]]:
    return [_ghost(row) for row in (yield _SQL["ghosts"](organization=organization))]


def kill_ghost(id_: int, by: str) -> Steps[bool]:
    """Decide to end a ghost. Return False if it is gone, or if somebody has decided that before."""
    decided = yield _SQL["kill_ghost"](id=id_, killed_by=by)
    for worker, job, attempt, token in decided:
        ((name, shard),) = yield _SQL["haunted_worker"](worker=worker)
        said = inbox.GhostKilled(worker, short_name(name), JobId(job), attempt, token, by)
        yield add_commands(shard, [inbox.written(said)])
    return bool(decided)

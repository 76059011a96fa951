"""Decide which workers are alive, from growing beats and this node's own monotonic clock.

A beat is a number in the store that a node increases while the worker sends heartbeats. No two wall
clocks are compared. Only increases that this leader sees count, so after a takeover or an outage of
the store every lease starts again. Only time in which the store accepts writes counts as silence,
because a commit that waits for a slow standby delays the beats of live workers.

A node tells a worker how long its builds continue without any node, and nodes may have different
``--lost-after``. The longest value that the worker may use is stored with its beat
(``Pulse.lost_after``). It shrinks only with a beat that the worker sent after it knew the smaller
value; so the value stored with the last beat also covers all beats that the leader did not see.
"""

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from boxsched.model import WorkerId
from boxsched.protocol.timing import GIVEN_AGAIN_SECONDS, UNKNOWN_AFTER_SECONDS
from boxsched.protocol.workers import Pulse, WorkerConnection

DRIFT = 1.05
# A node that is only reconnecting its lock session still serves its workers, and is alive again
# sooner.
NODE_GONE_SECONDS = 4.0
LATE_BEATS_SECONDS = 2.0  # how late a write of a node that has ended may become visible


class Sight(enum.Enum):
    HEARD = "heard"
    SILENT = "silent"  # its jobs are now unknown
    LOST = "lost"  # its builds' supervisors have ended the jobs, which now get other Boxes


@attrs.define
class Watched:
    beat: int
    since: float  # when the beat last increased
    connected: bool
    silent_after: float  # seconds, from the last value that the worker got
    sight: Sight = Sight.HEARD
    cut_off: bool = False  # whether it is disconnected because its node has ended

    def comes_back(self) -> bool:
        """Mark the worker as present. Return whether it was silent, lost or cut off before."""
        news = self.cut_off or self.sight is not Sight.HEARD
        if news:
            self.connected, self.sight, self.cut_off = True, Sight.HEARD, False
        return news


@attrs.frozen
class Sights:
    """The changes since the last check."""

    back: tuple[WorkerId, ...] = ()
    silent: tuple[WorkerId, ...] = ()
    lost: tuple[WorkerId, ...] = ()
    # disconnected: they get no new jobs; their present jobs do not change
    hung_up: tuple[WorkerId, ...] = ()
    connections: tuple[WorkerConnection, ...] = ()  # connections of the silent workers
    # incompatible workers that no live node would take
    unfit: tuple[WorkerId, ...] = ()
    # all workers that cannot begin jobs; None: no change
    problems: Mapping[WorkerId, str] | None = None

    def __bool__(self) -> bool:
        moved = self.back or self.silent or self.lost or self.hung_up or self.unfit
        return bool(moved) or self.problems is not None


NOTHING_SEEN = Sights()


class Watch:
    """Watches one shard's workers. ``now`` is in monotonic seconds.

    ``lost_after``: seconds, for workers whose own value is not known.
    """

    def __init__(self, lost_after: float) -> None:
        self._lost_after = lost_after
        self._watched: dict[WorkerId, Watched] = {}
        self._gone: dict[str, float] = {}  # by node: when it was first seen to be absent

    def begin(self, pulses: Iterable[Pulse], now: float, concerned: Collection[WorkerId]) -> None:
        """Start every lease now.

        ``concerned``: workers that have Boxes. Others that are not connected are lost already.
        """
        self._gone = {}
        self._watched = {
            pulse.worker: Watched(
                pulse.beat,
                now,
                pulse.connected,
                _silent_after(self._promised(pulse)),
                Sight.HEARD if pulse.connected or pulse.worker in concerned else Sight.LOST,
            )
            for pulse in pulses
        }

    def begin_anew(self, now: float) -> None:
        """Start every lease again, because beats may have been delayed."""
        self._gone = {}
        for known in self._watched.values():
            known.since = now

    def leave_out(self, seconds: float) -> None:
        """Do not count these seconds as silence, because no beat could arrive."""
        self._gone = {node: since + seconds for node, since in self._gone.items()}
        for known in self._watched.values():
            known.since += seconds

    def misses_somebody(self, now: float) -> bool:
        """Whether a worker has been silent for half the time after which it counts as silent."""
        return any(
            known.sight is Sight.HEARD and now - known.since >= known.silent_after / 2
            for known in self._watched.values()
        )

    def connected(self, worker: WorkerId, now: float) -> None:
        """Note that the worker has just connected, whatever its state was before."""
        known = self._watched.get(worker)
        if known is not None:
            known.comes_back()
            known.since, known.connected = now, True

    def look(
        self, pulses: Sequence[Pulse], now: float, gone: Collection[str] = frozenset()
    ) -> Sights:
        """Compare the workers' rows with those of the last check.

        ``gone``: nodes that were not alive after the pulses had been read.
        """
        self._gone = {node: self._gone.get(node, now) for node in gone}
        if len(self._watched) > len(pulses):  # some were forgotten
            there = {pulse.worker for pulse in pulses}
            self._watched = {w: known for w, known in self._watched.items() if w in there}
        back, silent, lost, hung_up, connections = [], [], [], [], []
        for pulse in pulses:
            known = self._watched.get(pulse.worker)
            promised = self._promised(pulse)
            silent_after = _silent_after(promised)
            if known is None:
                self._watched[pulse.worker] = Watched(
                    pulse.beat, now, pulse.connected, silent_after
                )
                continue
            known.silent_after = silent_after
            if pulse.beat != known.beat:
                known.beat, known.since = pulse.beat, now
                if known.comes_back():
                    back.append(pulse.worker)
            elif known.sight is Sight.HEARD and now - known.since >= silent_after:
                known.sight, known.connected = Sight.SILENT, False
                silent.append(pulse.worker)
                connections.append(WorkerConnection(pulse.worker, pulse.connection))
            elif known.sight is Sight.SILENT and now - known.since >= given_again_after(promised):
                known.sight = Sight.LOST
                lost.append(pulse.worker)
            if known.connected and not self._is_there(known, pulse, now):
                known.connected, known.cut_off = False, pulse.connected
                hung_up.append(pulse.worker)
        return Sights(tuple(back), tuple(silent), tuple(lost), tuple(hung_up), tuple(connections))

    def _promised(self, pulse: Pulse) -> float:
        return self._lost_after if pulse.lost_after is None else pulse.lost_after

    def _is_there(self, known: Watched, pulse: Pulse, now: float) -> bool:
        """Whether the worker is connected: its node is alive, or has stored a beat after it seemed
        absent.
        """
        gone = self._gone.get(pulse.node, now)
        heard_since = known.since > gone + LATE_BEATS_SECONDS
        return pulse.connected and (heard_since or now - gone < NODE_GONE_SECONDS)


def _silent_after(lost_after: float) -> float:
    return min(UNKNOWN_AFTER_SECONDS, lost_after / 2)


def given_again_after(lost_after: float) -> float:
    """Return the seconds of silence after which a build's job may have another Box.

    They allow for clocks that differ by a few per cent, and for supervisors that check once a
    second.
    """
    return lost_after * DRIFT + GIVEN_AGAIN_SECONDS

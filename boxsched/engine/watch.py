"""Which workers are alive: decided by growing beats and this node's own monotonic clock.

A beat is a number in the store that a node raises while it hears from the worker. No two wall
clocks are compared. Only growth that this leader sees counts, so after a takeover or an outage of
the store every lease starts again. Only time in which the store accepts writes counts as silence: a
commit that waits for a slow standby delays the beats of workers that are alive.

A node promises a worker how long its builds go on without any node, and nodes may be started with
different ``--lost-after``. The longest value that the worker may use is stored with its beat
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
# A node whose lock session is only reconnecting serves its workers, and is alive again sooner.
NODE_GONE_SECONDS = 4.0
LATE_BEATS_SECONDS = 2.0  # what a node stored before it went may be seen so much later


class Sight(enum.Enum):
    HEARD = "heard"
    SILENT = "silent"  # its jobs are unknown
    LOST = "lost"  # its builds' jobs have been ended by their supervisors, and are given again


@attrs.define
class Watched:
    beat: int
    since: float  # when the beat was seen to grow last
    connected: bool
    silent_after: float  # seconds, by what it was promised last
    sight: Sight = Sight.HEARD
    cut_off: bool = False  # disconnected because its node is gone

    def comes_back(self) -> bool:
        """Mark the worker as heard. Returns whether it was silent, lost or cut off before."""
        news = self.cut_off or self.sight is not Sight.HEARD
        if news:
            self.connected, self.sight, self.cut_off = True, Sight.HEARD, False
        return news


@attrs.frozen
class Sights:
    """What changed since the last look."""

    back: tuple[WorkerId, ...] = ()
    silent: tuple[WorkerId, ...] = ()
    lost: tuple[WorkerId, ...] = ()
    hung_up: tuple[WorkerId, ...] = ()  # disconnected: no new jobs; their jobs are as they were
    connections: tuple[WorkerConnection, ...] = ()  # of the silent
    problems: Mapping[WorkerId, str] | None = None  # all that can begin no jobs; None: no change

    def __bool__(self) -> bool:
        moved = self.back or self.silent or self.lost or self.hung_up
        return bool(moved) or self.problems is not None


NOTHING_SEEN = Sights()


class Watch:
    """Watches one shard's workers. ``now`` is in monotonic seconds.

    ``lost_after``: seconds, for workers whose promise is not known.
    """

    def __init__(self, lost_after: float) -> None:
        self._lost_after = lost_after
        self._watched: dict[WorkerId, Watched] = {}
        self._gone: dict[str, float] = {}  # node -> when it was first seen not to be alive

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
        """Start every lease now, as beats may have been delayed."""
        self._gone = {}
        for known in self._watched.values():
            known.since = now

    def leave_out(self, seconds: float) -> None:
        """Do not count these seconds as silence: no beat could arrive."""
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
        """The worker has just connected: it is heard, whatever it was before."""
        known = self._watched.get(worker)
        if known is not None:
            known.comes_back()
            known.since, known.connected = now, True

    def look(
        self, pulses: Sequence[Pulse], now: float, gone: Collection[str] = frozenset()
    ) -> Sights:
        """Compare the workers' rows with the last look.

        ``gone``: nodes that were not alive when the pulses had been read.
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
            elif known.sight is Sight.SILENT and now - known.since >= _given_again_after(promised):
                known.sight = Sight.LOST
                lost.append(pulse.worker)
            if known.connected and not self._is_there(known, pulse, now):
                known.connected, known.cut_off = False, pulse.connected
                hung_up.append(pulse.worker)
        return Sights(tuple(back), tuple(silent), tuple(lost), tuple(hung_up), tuple(connections))

    def _promised(self, pulse: Pulse) -> float:
        return self._lost_after if pulse.lost_after is None else pulse.lost_after

    def _is_there(self, known: Watched, pulse: Pulse, now: float) -> bool:
        """Whether the worker is connected: its node is alive, or stored a beat after it seemed
        gone."""
        gone = self._gone.get(pulse.node, now)
        heard_since = known.since > gone + LATE_BEATS_SECONDS
        return pulse.connected and (heard_since or now - gone < NODE_GONE_SECONDS)


def _silent_after(lost_after: float) -> float:
    return min(UNKNOWN_AFTER_SECONDS, lost_after / 2)


def _given_again_after(lost_after: float) -> float:
    """Allow for clocks that differ by a few per cent, and supervisors that look once a second."""
    return lost_after * DRIFT + GIVEN_AGAIN_SECONDS

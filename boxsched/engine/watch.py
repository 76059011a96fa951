"""Which workers are heard from: told by beats that grow, and this node's own monotonic clock.

A beat is a number in the store that a node raises while it hears from the worker. No wall clock is
compared with another; and since only what is seen to grow counts, every lease counts from now after
a takeover, and after an outage of the store. Only time in which the store takes what nodes write
counts as silence: a commit that waits for a slow standby holds up the beats of workers that are
heard.

How long a worker's builds go on without a node was promised to it by a node, and nodes may be
started with different ``--lost-after``. What it may go by at most stands beside its beat
(``Pulse.lost_after``), and shrinks only with a beat that it sent knowing so: whatever the beats in
between that nobody saw, the value beside the last one covers them all.
"""

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from boxsched.model import WorkerId
from boxsched.protocol.timing import GIVEN_AGAIN_SECONDS, UNKNOWN_AFTER_SECONDS
from boxsched.protocol.workers import Connection, Pulse

DRIFT = 1.05
# A node whose lock session is only reconnecting serves its workers, and is alive again sooner.
NODE_GONE_SECONDS = 4.0
LATE_BEATS_SECONDS = 2.0  # what a node stored before it went may be seen so much later


class Sight(enum.Enum):
    HEARD = "heard"
    SILENT = "silent"  # its jobs are unknown, nothing more
    LOST = "lost"  # its builds' jobs have been ended by their supervisors, and are given again


@attrs.define
class Watched:
    beat: int
    since: float  # when the beat was seen to grow last
    connected: bool
    silent_after: float  # seconds, by what it was promised last
    sight: Sight = Sight.HEARD
    cut_off: bool = False  # hung up, as its node went

    def comes_back(self) -> bool:
        """Heard again: whether that is news."""
        news = self.cut_off or self.sight is not Sight.HEARD
        if news:
            self.connected, self.sight, self.cut_off = True, Sight.HEARD, False
        return news


@attrs.frozen
class Sights:
    """What changed at a look."""

    back: tuple[WorkerId, ...] = ()
    silent: tuple[WorkerId, ...] = ()
    lost: tuple[WorkerId, ...] = ()
    hung_up: tuple[WorkerId, ...] = ()  # nothing new is given to them; their jobs are as they were
    connections: tuple[Connection, ...] = ()  # of the silent
    problems: Mapping[WorkerId, str] | None = None  # who can begin no jobs, where that is news
    ready: frozenset[WorkerId] = frozenset()  # who can again, and is connected

    def __bool__(self) -> bool:
        moved = self.back or self.silent or self.lost or self.hung_up
        return bool(moved) or self.problems is not None


NOTHING_SEEN = Sights()


class Watch:
    """Seconds of ``now`` are monotonic. ``lost_after``: of workers of which it is not known what
    they were promised."""

    def __init__(self, lost_after: float) -> None:
        self._lost_after = lost_after
        self._watched: dict[WorkerId, Watched] = {}
        self._gone: dict[str, float] = {}  # node -> when it was first seen not to be alive

    def begin(self, pulses: Iterable[Pulse], now: float, concerned: Collection[WorkerId]) -> None:
        """Every lease counts from now. ``concerned``: workers that have Boxes; of the others those
        that are not connected are gone for good."""
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
        """Beats may have been held up: every lease counts from now."""
        self._gone = {}
        for known in self._watched.values():
            known.since = now

    def leave_out(self, seconds: float) -> None:
        """So long nobody could be heard."""
        self._gone = {node: since + seconds for node, since in self._gone.items()}
        for known in self._watched.values():
            known.since += seconds

    def misses_somebody(self, now: float) -> bool:
        """Whether a worker is quiet for longer than between two heartbeats."""
        return any(
            known.sight is Sight.HEARD and now - known.since >= known.silent_after / 2
            for known in self._watched.values()
        )

    def connected(self, worker: WorkerId, now: float) -> None:
        """It has just come: its Boxes are there, whatever was thought of it."""
        known = self._watched.get(worker)
        if known is not None:
            known.comes_back()
            known.since, known.connected = now, True

    def is_there(self, worker: WorkerId) -> bool:
        """Connected, and heard, as of the last look."""
        known = self._watched.get(worker)
        return known is not None and known.connected and known.sight is Sight.HEARD

    def look(
        self, pulses: Sequence[Pulse], now: float, gone: Collection[str] = frozenset()
    ) -> Sights:
        """``gone``: nodes that are not alive, as of after the pulses were read."""
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
                connections.append(Connection(pulse.worker, pulse.connection))
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
        """Where its node is not seen to be alive, what it stored since says that it is."""
        gone = self._gone.get(pulse.node, now)
        heard_since = known.since > gone + LATE_BEATS_SECONDS
        return pulse.connected and (heard_since or now - gone < NODE_GONE_SECONDS)


def _silent_after(lost_after: float) -> float:
    return min(UNKNOWN_AFTER_SECONDS, lost_after / 2)


def _given_again_after(lost_after: float) -> float:
    """Clocks may differ by a few per cent in their rates, and supervisors look once a second."""
    return lost_after * DRIFT + GIVEN_AGAIN_SECONDS

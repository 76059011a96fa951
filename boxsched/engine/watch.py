"""Which workers are heard from: told by beats that grow, and this node's own monotonic clock.

A beat is a number in the store that a node raises while it hears from the worker. No wall clock is
compared with another; and since only what is seen to grow counts, every lease counts from now after
a takeover, and after an outage of the store.
"""

import enum
from collections.abc import Collection, Iterable, Sequence

import attrs

from boxsched.model import WorkerId
from boxsched.store.values import Connection, Pulse
from boxsched.worker.wire import GIVEN_AGAIN_SECONDS, UNKNOWN_AFTER_SECONDS

DRIFT = 1.05


class Sight(enum.Enum):
    HEARD = "heard"
    SILENT = "silent"  # its jobs are unknown, nothing more
    LOST = "lost"  # its builds' jobs have been ended by their supervisors, and are given again


@attrs.define
class Watched:
    beat: int
    since: float  # when the beat was seen to grow last
    connected: bool
    sight: Sight = Sight.HEARD


@attrs.frozen
class Sights:
    """What changed at a look."""

    back: tuple[WorkerId, ...] = ()
    silent: tuple[WorkerId, ...] = ()
    lost: tuple[WorkerId, ...] = ()
    hung_up: tuple[WorkerId, ...] = ()  # nothing new is given to them; their jobs are as they were
    connections: tuple[Connection, ...] = ()  # of the silent

    def __bool__(self) -> bool:
        return bool(self.back or self.silent or self.lost or self.hung_up)


NOTHING_SEEN = Sights()


class Watch:
    """Seconds of ``now`` are monotonic. ``lost_after`` is the workers' own deadline for builds."""

    def __init__(self, lost_after: float) -> None:
        self._silent_after = min(UNKNOWN_AFTER_SECONDS, lost_after / 2)
        # Clocks may differ by a few per cent in their rates, and supervisors look once a second.
        self._lost_after = lost_after * DRIFT + GIVEN_AGAIN_SECONDS
        self._watched: dict[WorkerId, Watched] = {}

    def begin(self, pulses: Iterable[Pulse], now: float, concerned: Collection[WorkerId]) -> None:
        """Every lease counts from now. ``concerned``: workers that have Boxes; of the others those
        that are not connected are gone for good."""
        self._watched = {
            pulse.worker: Watched(
                pulse.beat,
                now,
                pulse.connected,
                Sight.HEARD if pulse.connected or pulse.worker in concerned else Sight.LOST,
            )
            for pulse in pulses
        }

    def connected(self, worker: WorkerId, now: float) -> None:
        """It has just come: its Boxes are there, whatever was thought of it."""
        known = self._watched.get(worker)
        if known is not None:
            known.since, known.sight, known.connected = now, Sight.HEARD, True

    def look(self, pulses: Sequence[Pulse], now: float) -> Sights:
        back, silent, lost, hung_up, connections = [], [], [], [], []
        for pulse in pulses:
            known = self._watched.get(pulse.worker)
            if known is None:
                self._watched[pulse.worker] = Watched(pulse.beat, now, pulse.connected)
                continue
            if known.connected and not pulse.connected:
                known.connected = False
                hung_up.append(pulse.worker)
            if pulse.beat != known.beat:
                known.beat, known.since = pulse.beat, now
                if known.sight is not Sight.HEARD:
                    known.sight = Sight.HEARD
                    back.append(pulse.worker)
            elif known.sight is Sight.HEARD and now - known.since >= self._silent_after:
                known.sight, known.connected = Sight.SILENT, False
                silent.append(pulse.worker)
                connections.append(Connection(pulse.worker, pulse.connection))
            elif known.sight is Sight.SILENT and now - known.since >= self._lost_after:
                known.sight = Sight.LOST
                lost.append(pulse.worker)
        return Sights(tuple(back), tuple(silent), tuple(lost), tuple(hung_up), tuple(connections))

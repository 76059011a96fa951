"""The Box of each attempt, as far as the agent knows. A Box runs one attempt at a time.

After a failover or a restored backup the database may not know an attempt that runs here, and give
its Box to another job. The new job begins when the processes of the old attempt have ended.
"""

from collections.abc import Collection, Iterable, Mapping

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment

Key = tuple[JobId, int]  # a job and its lease token


class Occupancy:
    def __init__(self) -> None:
        self._ordinals: dict[Key, int] = {}

    def note(self, desired: Mapping[Key, Assignment], here: Collection[Key]) -> None:
        """Remember the Boxes of the ``desired`` attempts and of those that are ``here``."""
        known = {key: number for key, number in self._ordinals.items() if key in here}
        self._ordinals = known | {key: wanted.ordinal for key, wanted in desired.items()}

    def held_up(self, wanted: Assignment, running: Iterable[Key]) -> bool:
        """Whether a ``running`` attempt is on the wanted Box or on an unknown Box."""
        return any(self._ordinals.get(key, wanted.ordinal) == wanted.ordinal for key in running)

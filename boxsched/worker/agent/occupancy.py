"""Which Box each attempt is on, as far as it was told: a Box has one at a time.

A database that failed over, or was restored, may know nothing of an attempt that runs here, and
give its Box to another job. That one begins when the old one's processes have ended.
"""

from collections.abc import Collection, Iterable, Mapping

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment

Key = tuple[JobId, int]  # a job and its lease token


class Occupancy:
    def __init__(self) -> None:
        self._ordinals: dict[Key, int] = {}

    def note(self, desired: Mapping[Key, Assignment], here: Collection[Key]) -> None:
        """What is desired now, and what there is on this worker."""
        known = {key: number for key, number in self._ordinals.items() if key in here}
        self._ordinals = known | {key: wanted.ordinal for key, wanted in desired.items()}

    def held_up(self, wanted: Assignment, running: Iterable[Key]) -> bool:
        """Whether one of those is on its Box, or on nobody knows which."""
        return any(self._ordinals.get(key, wanted.ordinal) == wanted.ordinal for key in running)

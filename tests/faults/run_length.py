"""How long the fault tests run: see README.md in this folder."""

import os

REPEATS = int(os.environ.get("BOXSCHED_TEST_FAULTS", "1"))
AT_LENGTH = REPEATS > 1  # then outages and random faults last as long as the fault model says
SUBMISSIONS = int(
    os.environ.get("BOXSCHED_TEST_SUBMISSIONS", "300")
)  # accepted under random faults
RANDOM_FAULTS = max(8, SUBMISSIONS * 3 // 1000)  # at least this many faults meanwhile


def short_or_full(here: float, at_length: float) -> float:
    """Return the seconds for a short or a full run."""
    return at_length if AT_LENGTH else here

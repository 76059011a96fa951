"""How much of it: see README.md beside this."""

import os

REPEATS = int(os.environ.get("BOXSCHED_TEST_FAULTS", "1"))
AT_LENGTH = REPEATS > 1  # then outages and storms last as long as the fault model says


def lasting(here: float, at_length: float) -> float:
    """Seconds."""
    return at_length if AT_LENGTH else here

"""The reasons of unknown jobs that wait for another attempt; the next leader reads them, too.

The attempt that such a job had is over, or never was: no worker is told to run it, and nobody's
word on it counts.
"""

# The reasons of jobs that wait for another Box: their attempts have ended, or never began.
WAITS_AGAIN = "; waits for another try"
ENDED_LOST = f"lost: no node was heard for too long{WAITS_AGAIN}"

# The reason of an unknown job that a person has resolved as to be run again: it waits for a Box.
AGAIN = "resolved: to be run again; waits for a Box"

# The reason of a job that has ended because its worker was lost.
LOST = "lost: its worker was not heard from"


def not_begun(worker: str, problem: str) -> str:
    """The reason of a job that a worker could not begin."""
    return f"worker {worker} could not begin it: {problem}{WAITS_AGAIN}"


def is_not_begun(reason: str | None) -> bool:
    return waits_again(reason) and reason not in (ENDED_LOST, AGAIN)


def without_wait(reason: str | None) -> str:
    """Such a reason, without the words that it waits."""
    return (reason or "").removesuffix(WAITS_AGAIN)


def waits_again(reason: str | None) -> bool:
    """Whether it is the reason of a job that waits for another Box."""
    return reason is not None and (reason == AGAIN or reason.endswith(WAITS_AGAIN))

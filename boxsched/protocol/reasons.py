"""Reasons that say that an unknown job waits for another attempt.

They are stored with the job, so that the next leader knows it too. The last attempt of such a job
has ended or never began: no worker is told to run it, and reports about it are ignored.
"""

# The end of the reason of a job that waits for another Box.
WAITS_AGAIN = "; waits for another try"
ENDED_LOST = f"lost: no node answered for too long{WAITS_AGAIN}"

# The reason of an unknown job that a person has resolved as to be run again: it waits for a Box.
AGAIN = "resolved: to be run again; waits for a Box"

# The reason of a job that has ended because its worker was lost.
LOST = "lost: its worker was not heard from"


_LOST = "lost: "  # how a worker's reason begins when its supervisor, its record or its machine was


def says_lost(reason: str | None) -> bool:
    """Whether a worker reports that the attempt was lost there."""
    return (reason or "").startswith(_LOST)


# The beginnings of reasons of jobs that ended without a report of their workers.
RESOLVED = "resolved as "
NOT_REPORTED = "its worker did not report its end"


def ended_unreported(reason: str | None) -> bool:
    """Whether a job with this reason ended without a report of its worker."""
    said = reason or ""
    return said == LOST or said.startswith(RESOLVED) or said.endswith(NOT_REPORTED)


def not_begun(worker: str, problem: str) -> str:
    """Return the reason of a job that a worker could not begin because of ``problem``."""
    return f"worker {worker} could not begin it: {problem}{WAITS_AGAIN}"


def is_not_begun(reason: str | None) -> bool:
    """Whether this reason was made by ``not_begun``."""
    return waits_again(reason) and reason not in (ENDED_LOST, AGAIN)


def without_wait(reason: str | None) -> str:
    """Return such a reason without the words that say that the job waits."""
    return (reason or "").removesuffix(WAITS_AGAIN)


def waits_again(reason: str | None) -> bool:
    """Whether this is the reason of a job that waits for another Box."""
    return reason is not None and (reason == AGAIN or reason.endswith(WAITS_AGAIN))

"""How much time a worker's cache saves: what jobs take with a cache, compared with what they took
without one.

The worker keeps the durations of passed runs that found no cache, by project and job name. When a
run that found one has passed, it is compared with the median of these. So nothing is counted before
the job has passed once without a cache on this worker.
"""

import contextlib
import hashlib
import json
import statistics
import threading

import msgspec

from boxsched.worker.agent.attempt import Attempt
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.folder import CacheUse

FILE = "durations.json"
RUNS = 5  # of a job without a cache: the latest
JOBS = 1_000  # with durations; the one that ran without a cache longest ago goes first
FILE_BYTES = 1 << 20

_durations = msgspec.json.Decoder(dict[str, list[float]])
_turn = threading.Lock()  # the file is read and replaced by several threads


def saved(folder: int, attempt: Attempt) -> float | None:
    """Return the seconds that the cache saved this passed attempt; negative: it took longer.

    None: nothing can be said, and if it had no cache, its duration is kept for later ones.
    ``folder``: of the cache. Raises OSError. Blocking.
    """
    wanted, ended = attempt.record.cache, attempt.ended
    if wanted is None or ended is None or ended.seconds is None or attempt.cached is None:
        return None
    key, took = _key(wanted), attempt.cache_seconds + ended.seconds
    with _turn:
        known = _read(folder)
        before = known.pop(key, [])
        if attempt.cached:
            return statistics.median(before) - took if before else None
        known[key] = [*before, took][-RUNS:]
        for oldest in list(known)[: max(0, len(known) - JOBS)]:
            del known[oldest]
        new = f"{FILE}.new"
        safe_files.write_file(folder, new, msgspec.json.encode(known))
        safe_files.rename(folder, new, FILE)
    return None


def _key(wanted: CacheUse) -> str:
    return hashlib.sha256(json.dumps([wanted.scope, wanted.job]).encode()).hexdigest()[:32]


def _read(folder: int) -> dict[str, list[float]]:
    """Return the durations; none if the file is missing or damaged."""
    with contextlib.suppress(safe_files.Damaged, msgspec.DecodeError):
        data = safe_files.read_file(folder, FILE, FILE_BYTES)
        return {} if data is None else _durations.decode(data)
    return {}

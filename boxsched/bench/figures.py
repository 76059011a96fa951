"""Percentiles, a description of the machine, and the speed of its disk."""

import math
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

FSYNC_SECONDS = 0.5  # how long each of the two disk figures is measured
_RECORD = b"x" * 200


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; 0.0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    return {
        name: round(percentile(seconds, share) * 1000, 3)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


def machine() -> dict[str, object]:
    return {"cores": os.cpu_count(), "processor": _processor(), "system": platform.platform()}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    found |= {name: version(name) for name in ("boxsched", "aiohttp", "uvloop") if _there(name)}
    return found


def disk(folder: Path | None) -> dict[str, int]:
    "Measure what a simple loop reaches on the folder's disk: durable appends, and SQLite"
    "commits."
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as scratch:
        return {
            "appends_per_second": round(_appends(Path(scratch) / "appended")),
            "sqlite_commits_per_second": round(_commits(Path(scratch) / "committed")),
        }


def _appends(path: Path) -> float:
    # Not fdatasync: macOS has none.
    with path.open("ab", buffering=0) as file:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < FSYNC_SECONDS:
            file.write(_RECORD)
            os.fsync(file.fileno())
            count += 1
        return count / (time.perf_counter() - began)


def _commits(path: Path) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)")
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < FSYNC_SECONDS:
            connection.execute("INSERT INTO t (data) VALUES (?)", (_RECORD,))
            count += 1
        return count / (time.perf_counter() - began)
    finally:
        connection.close()


def resident_mib(pid: int, field: str = "VmRSS") -> float | None:
    """Return a process's memory from Linux's /proc, in MiB; ``VmHWM`` is its peak. None without
    /proc.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == field:
            return round(int(rest.split()[0]) / 1024, 1)
    return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _there(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:  # PackageNotFoundError is one
        return False
    return True

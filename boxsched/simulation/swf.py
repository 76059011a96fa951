"""Workload logs in the Standard Workload Format: each job is a workload of that many one-Box jobs.

The format: https://www.cs.huji.ac.il/labs/parallel/workload/swf.html. One job a line, 18 columns,
-1 where something is unknown, comments after ``;``. Columns are counted from 1 below.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from boxsched.model import PRIORITY_BUILD, Kind, Policy, ProjectId
from boxsched.scheduling.interface import JobAsk, QueueRules, Submit
from boxsched.simulation.fields import MAX_SECONDS, BadInput, shown
from boxsched.simulation.scenario import (
    DEFAULT_BOX_TYPE,
    JobGroup,
    Scenario,
    workload_id,
)
from boxsched.states import Result

COLUMNS_NEEDED = 9
_GZIP_MAGIC = b"\x1f\x8b"
_PROJECT = ProjectId(1)


@attrs.frozen
class LoggedJob:
    """The columns of a line that are used here: 2, 4, 5, 8 and 9."""

    submitted: float
    run: float
    allocated: float
    requested: float
    requested_seconds: float

    @property
    def processors(self) -> int:
        return int(self.requested if self.requested > 0 else self.allocated)

    @property
    def seconds(self) -> float:
        return min(self.run, self.requested_seconds) if self.requested_seconds > 0 else self.run

    @property
    def expected(self) -> float:
        return self.requested_seconds if self.requested_seconds > 0 else self.run

    def runs_on(self, boxes: int) -> bool:
        return self.run > 0 and self.submitted >= 0 and 0 < self.processors <= boxes


def read(path: Path, limit: int | None = None) -> list[LoggedJob]:
    """Read the first ``limit`` jobs of a log, plain or gzipped. Raises BadInput."""
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
            return parse(gzip.GzipFile(fileobj=file) if zipped else file, limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(str(path), f"is a damaged gzip file: {shown(str(error))}") from None


def parse(lines: Iterable[bytes], limit: int | None = None) -> list[LoggedJob]:
    jobs: list[LoggedJob] = []
    for number, columns in _job_lines(lines):
        if limit is not None and len(jobs) == limit:
            break
        jobs.append(_job(number, columns))
    return jobs


def _job_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    for number, line in enumerate(lines, 1):
        columns = line.split(b";", 1)[0].split()
        if columns:
            yield number, columns


def _job(number: int, columns: list[bytes]) -> LoggedJob:
    place = f"line {number}"
    if len(columns) < COLUMNS_NEEDED:
        raise BadInput(place, f"has {len(columns)} columns, not 18")
    try:
        values = [float(column) for column in columns]
    except ValueError as error:
        raise BadInput(place, shown(str(error))) from None
    job = LoggedJob(values[1], values[3], values[4], values[7], values[8])
    if not all(abs(v) <= MAX_SECONDS for v in values):  # also false for NaN
        raise BadInput(place, "has a number that is not finite")
    if not (job.allocated.is_integer() and job.requested.is_integer()):
        raise BadInput(place, "has a fraction of a processor")
    return job


def scenario(jobs: Iterable[LoggedJob], boxes: int, policy: Policy) -> Scenario:
    """Return a scenario of the jobs on this many Boxes, without jobs that need more Boxes.

    Jobs are submitted in the order of their submit times, and in the log's order at equal times. A
    few logs are not sorted by time.
    """
    kept = sorted((job for job in jobs if job.runs_on(boxes)), key=lambda job: job.submitted)
    # Equal workloads share their tuples, because a log has many workloads of few kinds.
    asks: dict[tuple[int, float], tuple[JobAsk, ...]] = {}
    courses: dict[tuple[int, float], tuple[JobGroup, ...]] = {}
    events, course = [], []
    for i, job in enumerate(kept):
        size, asked, runs = job.processors, job.expected, job.seconds
        if (size, asked) not in asks:
            asks[size, asked] = (JobAsk(DEFAULT_BOX_TYPE, asked, asked),) * size
        if (size, runs) not in courses:
            courses[size, runs] = _course(size, runs)
        events.append((job.submitted, _submit(i, job.submitted, asks[size, asked])))
        course.append(courses[size, runs])
    return Scenario(
        rules=QueueRules(policy=policy),
        boxes={DEFAULT_BOX_TYPE: boxes},
        project_limits={},
        names=[str(i) for i in range(1, len(kept) + 1)],
        course=course,
        events=events,
    )


def _submit(index: int, at: float, asks: tuple[JobAsk, ...]) -> Submit:
    return Submit(
        id=workload_id(index),
        kind=Kind.BUILD,
        project=_PROJECT,
        branch=None,
        lane=None,
        priority=PRIORITY_BUILD,
        created_at=at,
        jobs=asks,
    )


def _course(processors: int, seconds: float) -> tuple[JobGroup, ...]:
    """Return when the jobs end: all together."""
    boxes = ((DEFAULT_BOX_TYPE, processors),)
    return (JobGroup(tuple(range(processors)), seconds, Result.PASSED, boxes),)

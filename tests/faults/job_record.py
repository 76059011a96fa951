"""What the jobs themselves recorded on their machine: which job ran when, and with which lease.

Each job appends whole lines to one file, with the machine's own clock (since its boot, which no
test sets). So the file is right even if the service is wrong.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

TICK_SECONDS = 0.05

# No process is started for a line or a pause: bash reads, with a time limit, from a pipe that stays
# empty.
_SCRIPT = r"""
mark() {{
  read -r up _ < /proc/uptime
  echo "$BOXSCHED_JOB $BOXSCHED_ATTEMPT $BOXSCHED_LEASE_TOKEN $$ $up $BOXSCHED_WORKLOAD" \
    "$BOXSCHED_KIND:$BOXSCHED_PROJECT:${{BOXSCHED_SERVER:-$BOXSCHED_BRANCH}} $1" >> {job_record}
}}
mark start
exec 9<> <(:)
for ((i = 0; i < (BOXSCHED_ATTEMPT > 1 ? {again} : {ticks}); i++)); do
  read -rt {tick} -u 9 || :
  mark tick
  echo "tick $i"
done
while ((BOXSCHED_ATTEMPT == 1)) && [ ! -e {gate} ]; do
  read -rt {tick} -u 9 || :
  mark tick
  echo "tick $((i++))"
done
{then}
mark end
"""


@attrs.frozen
class RecordLine:
    job: str
    attempt: int
    token: int
    pid: int
    at: float
    workload: str
    lane: str
    what: str


@attrs.frozen
class RunInterval:
    """The time from a first line to a last: the job ran at least that long."""

    what: object
    first: float
    last: float
    tokens: tuple[int, ...]


class JobRecord:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def job(
        self,
        name: str,
        seconds: float,
        *,
        again: float | None = None,
        gate: Path | None = None,
        then: str = ":",
    ) -> dict[str, Any]:
        """Return the settings of a job that records lines, prints one for each, and finally runs
        ``then``.

        ``again``: how many seconds later attempts take. ``gate``: the first attempt continues,
        after ``seconds``, until this file exists.
        """
        script = _SCRIPT.format(
            job_record=self.path,
            ticks=ticks_in(seconds),
            again=ticks_in(seconds if again is None else again),
            tick=TICK_SECONDS,
            gate=gate or "/",
            then=then,
        )
        return {"name": name, "commands": [script], "show_commands": False}

    def marks(self, what: str | None = None) -> list[RecordLine]:
        return [mark for mark in self._marks() if what is None or mark.what == what]

    def _marks(self) -> Iterator[RecordLine]:
        for line in self.path.read_text().splitlines():
            job, attempt, token, pid, up, workload, lane, what = line.split(" ")
            yield RecordLine(
                job, int(attempt), int(token), int(pid), float(up), workload, lane, what
            )

    def begun(self, workload: str | None = None) -> int:
        return sum(workload in (None, mark.workload) for mark in self.marks("start"))

    def ticks(self, workload: str) -> int:
        """Return how many ticks the jobs of the workload have recorded."""
        return sum(mark.workload == workload for mark in self.marks("tick"))

    def log_of(self, workload: str) -> str:
        """Return the expected log of the workload's only job, from what it recorded."""
        return "".join(f"tick {number}\n" for number in range(self.ticks(workload)))

    def violations(self) -> list[str]:
        """Check that no attempt started twice, and that no two attempts of a job or workloads of a
        lane overlap."""
        marks = self.marks()
        starts: dict[tuple[str, int], int] = defaultdict(int)
        for mark in marks:
            starts[mark.job, mark.attempt] += mark.what == "start"
        found = [f"{key} began {count} times" for key, count in starts.items() if count != 1]
        jobs, lanes = defaultdict(list), defaultdict(list)
        for mark in marks:
            jobs[mark.job].append(mark)
            if not mark.lane.startswith("ssh:"):
                lanes[mark.lane].append(mark)
        for job, its in jobs.items():
            found += _overlaps(f"attempts at {job}", _spans(its, "attempt"))
        for lane, its in lanes.items():
            found += _overlaps(f"workloads of {lane}", _spans(its, "workload"))
        return found


def ticks_in(seconds: float) -> int:
    return round(seconds / TICK_SECONDS)


def _spans(marks: list[RecordLine], by: str) -> list[RunInterval]:
    groups: dict[object, list[RecordLine]] = defaultdict(list)
    for mark in marks:
        groups[getattr(mark, by)].append(mark)
    return [
        RunInterval(
            what,
            min(mark.at for mark in its),
            max(mark.at for mark in its),
            tuple(sorted({mark.token for mark in its})),
        )
        for what, its in groups.items()
    ]


def _overlaps(of: str, spans: list[RunInterval]) -> Iterator[str]:
    spans = sorted(spans, key=lambda span: (span.first, span.last))
    for one, next_ in itertools.pairwise(spans):
        if next_.first < one.last:
            yield f"{of} overlap: {one} and {next_}"
        if min(next_.tokens) <= max(one.tokens):
            yield f"{of}: lease tokens do not grow: {one} and {next_}"

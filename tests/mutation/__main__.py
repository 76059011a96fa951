"""``python -m tests.mutation``: change one thing, run the nearest tests, report what they miss.

Everything happens in a copy; the working tree is only read. First the tests of the rooms run once
on the unchanged copy, to learn which tests run each line. Then the tool makes one mutant after
another (``changes.py``) and runs the tests that run its line, quickest first, until one fails. A
mutant that passes all of them is a survivor, printed as ``file:line: before -> after``. Some
survivors change nothing that is visible from outside; the others show what no test asserts. A
mutant whose tests time out either hangs or the machine was busy: check each of these.

The same seed on the same tree chooses the same mutants. Exit status: 0 if none survived, 1 if some
did, 2 if the tests could not run without a change.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.mutation import measured
from tests.mutation.changes import Mutant, chosen, mutants_of
from tests.mutation.nearest import FOLDERS, Nearest
from tests.mutation.places import naming, places
from tests.mutation.runs import Copy, Outcome, adopt_orphans, end_orphans

PROJECT = Path(__file__).resolve().parents[2]
# in addition to ten times the duration of the tests: a mutant may be slow, and the machine
START_SECONDS = 60.0


def main() -> int:
    options = _options()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="boxsched-mutation-") as folder:
        copy = Copy(PROJECT, Path(folder) / "copy")
        sample = chosen(_mutants(copy.folder, options.rooms), options.seed, options.mutants)
        nearest = _measured(copy, Path(folder), options.rooms)
        if nearest is None:
            return 2
        return _try_all(copy, sample, nearest, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"default: {' '.join(FOLDERS)}")
    parser.add_argument("--seed", type=int, default=0, help="chooses the mutants (default: 0)")
    parser.add_argument("--mutants", type=int, default=100, help="at most so many (default: 100)")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no mutant after that")
    parser.add_argument(
        "--test-seconds",
        type=float,
        default=240.0,
        help="most seconds of tests for one mutant, by their durations without it (default: 240): "
        "with fewer, the slow tests, which assert the most, are left out",
    )
    parser.add_argument("--report", type=Path, help="write the survivors to this file, too")
    options = parser.parse_args()
    options.rooms = options.rooms or list(FOLDERS)
    if unknown := [room for room in options.rooms if room not in FOLDERS]:
        parser.error(f"unknown room: {unknown[0]} (known: {', '.join(FOLDERS)})")
    return options


def _mutants(copy: Path, rooms: list[str]) -> list[Mutant]:
    files = [
        str(path.relative_to(copy))
        for room in rooms
        for path in sorted((copy / "boxsched" / room).rglob("*.py"))
    ]
    return [one for file in files for one in mutants_of(copy, file)]


def _measured(copy: Copy, folder: Path, rooms: list[str]) -> Nearest | None:
    tests = sorted({each for room in rooms for each in FOLDERS[room]})
    print(f"running tests/{{{','.join(tests)}}} without a change", flush=True)
    began = time.monotonic()
    data, durations = folder / "coverage", folder / "durations.json"
    status = copy.measure(tests, data, durations)
    end_orphans()
    if status not in (0, 1) or not durations.exists():
        print(f"pytest ended with status {status}", file=sys.stderr)
        return None
    if status:
        print("some tests fail without a change; they are left out", file=sys.stderr)
    nearest = measured.read(copy.folder, data, durations)
    print(f"{len(nearest.seconds)} tests, {time.monotonic() - began:.0f} s", flush=True)
    return nearest


def _try_all(
    copy: Copy, sample: list[Mutant], nearest: Nearest, options: argparse.Namespace
) -> int:
    began = time.monotonic()
    outcomes: Counter[Outcome] = Counter()
    survivors: list[str] = []
    for mutant in sample:
        if time.monotonic() - began > 60 * options.minutes:
            break
        tests = nearest.tests(
            mutant.file,
            places(copy.folder, mutant),
            options.test_seconds,
            naming(copy.folder, mutant),
        )
        took = sum(nearest.seconds[name] for name in tests)
        outcome = copy.tried(mutant, tests, START_SECONDS + 10 * took)
        end_orphans()
        outcomes[outcome] += 1
        if outcome is Outcome.SURVIVED:
            survivors.append(f"{mutant}  ({len(tests)} tests)")
        print(f"{outcome:11} {mutant}", flush=True)
    print(f"of {outcomes.total()}: {', '.join(f'{outcomes[each]} {each}' for each in Outcome)}")
    if options.report is not None:
        options.report.write_text("".join(f"{line}\n" for line in survivors))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

"""The results of the run on the unchanged tree: which tests run each line, and for how long."""

import json
from collections import defaultdict
from pathlib import Path

import coverage

from tests.mutation.nearest import Nearest


def read(copy: Path, data: Path, durations: Path) -> Nearest:
    """``data`` is coverage's file, ``durations`` that of ``plugin.py``."""
    seconds = json.loads(durations.read_text())
    measured = coverage.CoverageData(str(data))
    measured.read()
    by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
    for path in measured.measured_files():
        file = str(Path(path).relative_to(copy))
        for line, names in measured.contexts_by_lineno(path).items():
            by_line[file, line] |= {name for name in names if name in seconds}
    return Nearest(seconds, by_line)

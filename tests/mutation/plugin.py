"""A pytest plugin for the first run on the unchanged tree: the lines and the duration of each test.

``MUTATION_NEAREST`` names the file that gets ``{test: seconds}`` as JSON; ``coverage`` itself
stores the lines, with the test's name as context.
"""

import json
import os
from collections.abc import Iterator

import coverage
import pytest

_seconds: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    measured = coverage.Coverage.current()
    assert measured is not None
    measured.switch_context(item.nodeid)
    result = yield
    measured.switch_context("")
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration
    if report.failed:
        _seconds[report.nodeid] = float("inf")


def pytest_sessionfinish() -> None:
    passed = {name: took for name, took in _seconds.items() if took != float("inf")}
    with open(os.environ["MUTATION_NEAREST"], "w") as file:
        json.dump(passed, file)

"""Fixtures and options for all folders of tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long one example takes depends on the machine's load: no test may fail for that.
hypothesis.settings.register_profile("boxsched", deadline=None)
hypothesis.settings.load_profile("boxsched")

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLES = PROJECT / "examples"
SHARED = PROJECT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl-C reaches commands that tests start, also if the tests run with SIGINT ignored (as
    behind ``nohup`` or ``&``): a new program resets a handler to the default, but keeps SIG_IGN."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published traces and cases beside the project; the test is skipped if it is
    absent."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the project")
    return SHARED


def skip_without_servers() -> None:
    """Call this before starting a database server or Redis for tests."""
    if os.environ.get("BOXSCHED_TEST_SERVERS") == "none":
        pytest.skip("BOXSCHED_TEST_SERVERS=none: no server is started")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--schemathesis-seconds",
        type=int,
        default=0,
        help="Let tests/service/test_described.py go on for so long, with a new seed.",
    )

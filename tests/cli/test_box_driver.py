"""Which Box driver ``worker``, ``serve`` and ``demo`` choose, and what they say about it."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from boxsched.cli import main
from boxsched.cli.failing import BadInput, Failure
from boxsched.cli.isolating import choose_driver
from boxsched.worker.agent import bubblewrap
from boxsched.worker.supervisor.isolation import Isolation
from tests.cli.conftest import end, start

serve_command = importlib.import_module("boxsched.cli.serve")  # the package has the command

NOTHING: dict[str, Any] = {
    "box_driver": None, "box_user": None, "box_network": "host", "box_readable": (),
}  # fmt: skip
MISSING = "bubblewrap is not installed"
REFUSED = "cannot isolate jobs: bwrap: setting up uid map: Permission denied"


@pytest.fixture(params=[None, MISSING, REFUSED])
def problem(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What the probe finds."""
    monkeypatch.setattr(bubblewrap, "probe", lambda walls: request.param)
    return request.param


def choose(tmp_path: Path, **options: Any) -> tuple[str, Isolation | None]:
    return choose_driver(NOTHING | options, hidden=[tmp_path / "data"])


def test_jobs_are_isolated_only_where_that_was_asked_for(tmp_path: Path) -> None:
    assert choose(tmp_path) == ("process", None)


@pytest.mark.parametrize("wish", [{}, {"box_network": "none"}, {"box_readable": (Path("/usr"),)}])
def test_isolation_that_was_asked_for_is_never_left_out(
    tmp_path: Path, problem: str | None, wish: dict[str, Any]
) -> None:
    if problem is None:
        driver, isolation = choose(tmp_path, box_driver="bubblewrap", **wish)
        assert driver == "bubblewrap" and isolation is not None
        return
    with pytest.raises(Failure, match=r"--box-driver bubblewrap: .*; to isolate jobs, ") as refused:
        choose(tmp_path, box_driver="bubblewrap", **wish)
    advice = "apt install bubblewrap" if problem is MISSING else "allow namespaces to ordinary"
    assert advice in str(refused.value)


@pytest.mark.parametrize(
    ("wish", "option"),
    [
        ({"box_user": "ci"}, "--box-user"),
        ({"box_network": "none"}, "--box-network"),
        ({"box_readable": (Path("/usr"),)}, "--box-readable"),
    ],
)
def test_options_of_isolated_jobs_need_isolated_jobs(
    tmp_path: Path, wish: dict[str, Any], option: str
) -> None:
    for driver in (None, "process", "none"):
        with pytest.raises(BadInput, match=f"{option}: only with --box-driver bubblewrap"):
            choose(tmp_path, box_driver=driver, **wish)


@pytest.mark.parametrize(
    ("options", "warns"), [((), True), (("--boxes", "0"), False), (("--box-driver", "none"), False)]
)
def test_a_service_says_that_its_jobs_may_act_as_administrators(
    tmp_path: Path, options: tuple[str, ...], warns: bool
) -> None:
    with (tmp_path / "said").open("w") as file:
        process = start("serve", "--port", "0", *options, data=tmp_path / "data", stderr=file)
        assert end(process) == 0
    said = (tmp_path / "said").read_text()
    assert ("any job may act as an administrator" in said) is warns


@pytest.mark.parametrize(
    ("required", "starts"),
    [
        (("--require-worker", "box_driver=process", "--require-worker", "stop_grace=10"), True),
        (("--require-worker", "box_driver=bubblewrap"), False),
        (("--require-worker", "stop_grace=3"), False),
        (("--require-worker", "stop_grace=3", "--boxes", "0"), True),
    ],
)
def test_a_services_own_boxes_are_as_it_requires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: tuple[str, ...], starts: bool
) -> None:
    begun: list[object] = []
    monkeypatch.setattr(serve_command, "run", begun.append)
    ran = CliRunner().invoke(main, ["serve", "--data", str(tmp_path / "data"), *required])
    assert (len(begun) == 1) is (ran.exit_code == 0) is starts
    if not starts:
        assert "--require-worker: this node's own Boxes differ: " in ran.stderr

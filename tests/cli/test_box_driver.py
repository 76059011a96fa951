"""Which Box driver ``worker``, ``serve`` and ``demo`` choose, and what they say about it."""

from pathlib import Path
from typing import Any

import pytest

from boxsched.cli.failing import BadInput, Failure
from boxsched.cli.isolating import choose_driver
from boxsched.worker.agent import bubblewrap
from boxsched.worker.supervisor.isolation import Isolation
from tests.cli.conftest import end, start

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


def choose(tmp_path: Path, default: str, **options: Any) -> tuple[str, Isolation | None, str]:
    driver, isolation, warning = choose_driver(
        NOTHING | options, hidden=[tmp_path / "data"], default=default
    )
    return driver, isolation, warning or ""


def test_a_worker_isolates_jobs_where_that_works(tmp_path: Path, problem: str | None) -> None:
    driver, isolation, warning = choose(tmp_path, "bubblewrap")
    assert (isolation is not None) is (driver == "bubblewrap") is (problem is None)
    assert warning.startswith(
        ""
        if problem is None
        else f"jobs run without isolation, as the user of this worker: {problem}"
    )
    if problem is not None:
        advice = "apt install bubblewrap" if problem is MISSING else "allow namespaces to ordinary"
        assert f"; to isolate jobs, {advice}" in warning.replace("install it (`", "")


@pytest.mark.parametrize(
    "wish",
    [{"box_driver": "bubblewrap"}, {"box_network": "none"}, {"box_readable": (Path("/usr"),)}],
)
def test_isolation_that_was_asked_for_is_never_left_out(
    tmp_path: Path, problem: str | None, wish: dict[str, Any]
) -> None:
    if problem is None:
        assert choose(tmp_path, "bubblewrap", **wish)[0] == "bubblewrap"
        return
    with pytest.raises(Failure, match=r"--box-driver bubblewrap: .*; to isolate jobs, "):
        choose(tmp_path, "bubblewrap", **wish)


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
    with pytest.raises(BadInput, match=f"{option}: only with --box-driver bubblewrap"):
        choose(tmp_path, "process", **wish)
    with pytest.raises(BadInput, match=f"{option}: only with"):
        choose(tmp_path, "bubblewrap", box_driver="process", **wish)


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

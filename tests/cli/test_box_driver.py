"""Which Box driver ``worker``, ``serve`` and ``demo`` choose, and what they say about it."""

import importlib
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from click import UsageError
from click.testing import CliRunner

from boxsched.cli import main
from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.isolating import choose_boxes
from boxsched.node.options import Options
from boxsched.service import say_isolation
from boxsched.worker.agent import bubblewrap, limiting
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.limits import Limits
from tests.cli.conftest import end, start

serve_command = importlib.import_module("boxsched.cli.serve")  # the package has the command

NOTHING: dict[str, Any] = {
    "box_driver": None, "box_user": None, "box_network": "host", "box_readable": (),
    "ssh_address": "none", "image_dir": (),
    "memory": (), "cpus": (), "processes": (), "disk": (),
}  # fmt: skip
MISSING = "bubblewrap is not installed"
REFUSED = "cannot isolate jobs: bwrap: setting up uid map: Permission denied"


@pytest.fixture(params=[None, MISSING, REFUSED])
def problem(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What the probe finds."""
    monkeypatch.setattr(bubblewrap, "probe", lambda walls: request.param)
    return request.param


def choose(tmp_path: Path, **options: Any) -> tuple[str, Isolation | None]:
    return choose_boxes(NOTHING | options, hidden=[tmp_path / "data"])[:2]


@pytest.mark.parametrize("driver", [None, "auto"])
def test_jobs_are_isolated_wherever_that_works(
    tmp_path: Path, problem: str | None, driver: str | None
) -> None:
    chosen = choose_boxes(NOTHING | {"box_driver": driver}, hidden=[tmp_path / "data"])
    assert (chosen.isolation is None) is (problem is not None)
    if problem is None:
        assert (chosen.driver, chosen.problem) == ("bubblewrap", None)
    else:
        assert chosen.driver == "process" and chosen.problem is not None
        assert chosen.problem.startswith(f"{problem}; to isolate jobs, ")


def test_without_the_user_nobody_jobs_are_not_isolated_unless_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "DEFAULT_USER", "no-such-user")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    chosen = choose_boxes(dict(NOTHING), hidden=[tmp_path / "data"])
    assert chosen.driver == "process" and "no user no-such-user" in (chosen.problem or "")
    with pytest.raises(InvalidInput, match="no user no-such-user"):
        choose(tmp_path, box_driver="bubblewrap")


def test_nothing_is_tried_where_no_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "probe", lambda walls: pytest.fail("tried"))
    chosen = choose_boxes(NOTHING | {"boxes": 0}, hidden=[tmp_path / "data"])
    assert (chosen.driver, chosen.problem) == ("process", None)


def test_jobs_that_were_to_be_as_the_user_are(tmp_path: Path) -> None:
    assert choose(tmp_path, box_driver="process") == ("process", None)


@pytest.mark.parametrize("wish", [{}, {"box_network": "none"}, {"box_readable": (Path("/usr"),)}])
def test_isolation_that_was_asked_for_is_never_left_out(
    tmp_path: Path, problem: str | None, wish: dict[str, Any]
) -> None:
    asks = {"box_driver": "bubblewrap"} if not wish else {}
    if problem is None:
        driver, isolation = choose(tmp_path, **asks, **wish)
        assert driver == "bubblewrap" and isolation is not None
        return
    with pytest.raises(Failure, match=r"--box-driver bubblewrap: .*; to isolate jobs, ") as refused:
        choose(tmp_path, **asks, **wish)
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
    for driver in ("process", "none"):
        with pytest.raises(InvalidInput, match=f"{option}: only with --box-driver bubblewrap"):
            choose(tmp_path, box_driver=driver, **wish)


def limits_of(tmp_path: Path, **options: Any) -> Limits:
    box_type = options.pop("box_type", "default")
    return choose_boxes(NOTHING | options, hidden=[tmp_path], box_type=box_type).limits


def test_limits_are_those_of_the_box_type(tmp_path: Path) -> None:
    given = {"disk": ((None, 10.0), ("linux", 20.0))}
    assert limits_of(tmp_path, **given) == Limits(disk=10)
    assert limits_of(tmp_path, **given, box_type="linux") == Limits(disk=20)
    assert limits_of(tmp_path, disk=(("linux", 20.0),)) == Limits()
    with pytest.raises(InvalidInput, match="--disk: give one for each Box type"):
        limits_of(tmp_path, disk=((None, 10.0), (None, 20.0)))


def test_a_limit_that_cannot_be_enforced_prevents_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(asked: Limits) -> Limits:
        raise limiting.CannotLimit("memory", "the kernel does not enforce it")

    monkeypatch.setattr(limiting, "limiting", refuse)
    with pytest.raises(Failure) as refused:
        limits_of(tmp_path, memory=((None, 1e9),))
    assert str(refused.value).startswith(
        "--memory: it cannot be enforced here: the kernel does not enforce it; run this command as"
    )
    assert str(refused.value).endswith(", or omit --memory")
    assert limits_of(tmp_path, box_driver="none", memory=((None, 1e9),)) == Limits()


@pytest.mark.parametrize(
    ("option", "text", "number"),
    [
        ("--memory", "2G", (None, 2 << 30)),
        ("--memory", "linux=1.5GiB", ("linux", 3 << 29)),
        ("--memory", "64m", (None, 64 << 20)),
        ("--disk", "1048576", (None, 1 << 20)),
        ("--cpus", "1.5", (None, 1.5)),
        ("--processes", "a=b=500", ("a=b", 500)),
        ("--memory", "1K", None),
        ("--memory", "=2G", None),
        ("--memory", "2X", None),
        ("--memory", "-2G", None),
        ("--cpus", "0", None),
        ("--cpus", "nan", None),
        ("--processes", "1e9", None),
        ("--processes", "", None),
    ],
)
def test_a_limit_as_a_text(option: str, text: str, number: object) -> None:
    (found,) = (one for one in serve_command.serve.params if option in one.opts)
    if number is not None:
        assert found.type.convert(text, None, None) == number
        return
    with pytest.raises(UsageError, match=r"must be a|has no Box type"):
        found.type.convert(text, None, None)


@pytest.mark.parametrize(
    ("options", "warns"),
    [
        (("--box-driver", "process"), True),
        (("--boxes", "0"), False),
        (("--box-driver", "none"), False),
    ],
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
    options = ["--data", str(tmp_path / "data"), "--box-driver", "process", *required]
    ran = CliRunner().invoke(main, ["serve", *options])
    assert (len(begun) == 1) is (ran.exit_code == 0) is starts
    if not starts:
        assert "--require-worker: this node's own Boxes differ: " in ran.stderr


def test_a_service_says_once_at_its_start_whether_its_jobs_are_isolated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    isolated = Options(data=tmp_path, boxes=2, box_driver="bubblewrap", isolation=Isolation([], []))
    say_isolation(isolated)
    assert capsys.readouterr().err == "in-process Boxes isolate their jobs with bubblewrap\n"
    say_isolation(attrs.evolve(isolated, boxes=0))
    say_isolation(Options(data=tmp_path, boxes=2, box_driver="none"))
    assert not capsys.readouterr().err and not caplog.records
    say_isolation(Options(data=tmp_path, boxes=2, box_driver="process", not_isolated=MISSING))
    (said,) = caplog.records
    assert f"because jobs are not isolated: {MISSING}" in said.getMessage()

"""Jobs for workers of earlier versions: what they would run wrongly fails, with its reason."""

from typing import Any

import attrs
import pytest

from boxsched.gateway.older_workers import fitting
from boxsched.model import BoxId, JobId, Kind, WorkloadId
from boxsched.protocol import wire
from boxsched.protocol.assignments import Assignment, JobSecret
from tests.gateway.fakes import HELLO

KNOWS: dict[str, Any] = {"takes_secrets": True, "keeps_artifacts": True, "knows_images": True}
PLAIN = Assignment(
    JobId(1), 1, 7, BoxId(1), 1, False, 60.0, "unit", ("make test",), {}, WorkloadId(1), 1,
    Kind.BUILD, "web", "main", None, None, None, None,
)  # fmt: skip
KEEPS = attrs.evolve(PLAIN, artifacts=("dist/*",))
GIVEN = attrs.evolve(PLAIN, is_given_artifacts=True)
IMAGE = attrs.evolve(PLAIN, image="/images/debian")
SECRET = attrs.evolve(PLAIN, secrets=(JobSecret("TOKEN", "a", False),))
ALL = [PLAIN, KEEPS, GIVEN, IMAGE, SECRET]


def worker(**lacks: bool) -> wire.Hello:
    return wire.Hello(1, "own w", "w", ("default",), "", "", **{**KNOWS, **lacks})


def refusals(hello: wire.Hello, level: list[Assignment]) -> list[str | None]:
    return [one.refusal for one in fitting(level, hello)]


def test_a_worker_of_this_version_gets_everything() -> None:
    assert fitting(ALL, worker()) == ALL


@pytest.mark.parametrize(
    ("lacks", "refused", "words"),
    [
        ("keeps_artifacts", [KEEPS, GIVEN], "this worker is too old to keep artifacts: upgrade it"),
        ("knows_images", [IMAGE], "this worker is too old to run jobs in images: upgrade it"),
    ],
)
def test_jobs_that_need_what_a_worker_lacks_fail_and_others_do_not(
    lacks: str, refused: list[Assignment], words: str
) -> None:
    expected = [words if one in refused else None for one in ALL]
    assert refusals(worker(**{lacks: False}), ALL) == expected
    # A reason that is there already remains.
    earlier = [attrs.evolve(one, refusal="no key") for one in refused]
    assert refusals(worker(**{lacks: False}), earlier) == ["no key"] * len(refused)


def test_a_worker_that_knows_no_refusals_is_given_commands_that_fail() -> None:
    plain, *others = fitting(ALL, HELLO)
    assert plain == PLAIN
    for one in others:
        assert (one.refusal, one.secrets, one.commands[-1]) == (None, (), "exit 1")
        assert "too old" in one.commands[0]

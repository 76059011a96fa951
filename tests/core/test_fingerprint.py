"""A worker's fingerprint as text, and where two differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.protocol import fingerprint

NAMES = st.from_regex(r"[a-z][a-z_]{0,31}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9_.+:/-]{1,64}", fullmatch=True)


@given(st.dictionaries(NAMES, VALUES, max_size=10))
def test_a_text_is_read_as_the_parts_that_it_was_made_of(parts: dict[str, str]) -> None:
    assert fingerprint.parts(fingerprint.text(parts)) == parts


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert fingerprint.differences(fingerprint.parts(text), {}) == ()


def test_a_worker_reports_its_options() -> None:
    text = fingerprint.of_worker(
        protocol=1, version="1.2.3", box_driver="process", log_limit=1024, stop_grace=10.0,
        further={"memory": "2G", "cpus": "none", "processes": "500", "disk": "none"},
    )  # fmt: skip
    assert text == (
        "box_driver=process, cpus=none, disk=none, log_limit=1024, memory=2G, processes=500, "
        "protocol=1, stop_grace=10, version=1.2.3"
    )
    said = fingerprint.enforced(fingerprint.parts(text))
    assert said == "not isolated, 2G memory, 500 processes"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("box_driver=bubblewrap, cpus=none, memory=none", "isolated by bubblewrap, no limits"),
        ("box_driver=bubblewrap", ""),
        ("boxsched-worker/1", ""),
        ("", ""),
    ],
)
def test_what_a_worker_enforces_is_said_in_words(text: str, said: str) -> None:
    assert fingerprint.enforced(fingerprint.parts(text)) == said


def test_a_worker_of_an_earlier_version_reports_its_protocol_alone() -> None:
    parts = fingerprint.parts("boxsched-worker/1")
    assert fingerprint.differences(parts, {"protocol": "1"}) == ()
    assert fingerprint.differences(parts, {"protocol": "1", "box_driver": "process"}) == (
        "box_driver is not known, must be process",
    )


def test_a_worker_at_a_node_of_an_earlier_version_fits_unless_more_is_required() -> None:
    """That node does not pass its fingerprint on."""
    assert fingerprint.differences(fingerprint.parts(""), {"protocol": "1"}) == ()
    assert fingerprint.differences({"protocol": "2"}, {"protocol": "1"}) == (
        "protocol is 2, must be 1",
    )
    assert fingerprint.differences({}, {"protocol": "1", "box_driver": "process"}) == (
        "box_driver is not known, must be process",
    )


def test_each_part_that_differs_is_named() -> None:
    worker = {"box_driver": "process", "stop_grace": "5", "version": "1"}
    required = {"box_driver": "bubblewrap", "stop_grace": "5", "log_limit": "1024"}
    assert fingerprint.differences(worker, required) == (
        "box_driver is process, must be bubblewrap",
        "log_limit is not known, must be 1024",
    )


def test_what_is_longer_than_a_fingerprint_is_cut() -> None:
    text = ", ".join(f"part_{'x' * n}=1" for n in range(1, 27)) * 10
    assert fingerprint.parts(text).keys() <= fingerprint.parts(text[:2_000]).keys()


@pytest.mark.parametrize("asked", ["", "x", "x=", "=x", "X=1", "x=a b", "x=1\n", "x" * 33 + "=1"])
def test_a_requirement_that_is_none_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match="must be PART=VALUE"):
        fingerprint.requirement(asked)


def test_a_requirement_is_a_part_and_its_value() -> None:
    assert fingerprint.requirement("box_driver=process") == ("box_driver", "process")

"""Ids, lanes, globs, priorities, and the order of the queue."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.model import (
    MAX_JOBS_A_WORKLOAD,
    Cancellation,
    CancellationRule,
    Kind,
    cancellation_for,
    default_priority,
    fails_fast,
    job_id,
    job_index,
    job_text,
    job_workload,
    lane_key,
    parse_job,
    parse_workload,
    queue_key,
    workload_text,
)

WORKLOADS = st.integers(1, 10**15 - 1)
PLACES = st.integers(0, MAX_JOBS_A_WORKLOAD - 1)


@given(WORKLOADS, PLACES)
def test_a_job_id_contains_its_workload_and_its_index(workload, place):
    job = job_id(workload, place)
    assert (job_workload(job), job_index(job)) == (workload, place)


@given(WORKLOADS, PLACES, WORKLOADS, PLACES)
def test_two_jobs_never_share_an_id(workload, place, other, other_place):
    same = (workload, place) == (other, other_place)
    assert (job_id(workload, place) == job_id(other, other_place)) is same


@given(WORKLOADS, PLACES)
def test_ids_are_unchanged_after_writing_and_reading(workload, place):
    assert parse_workload(workload_text(workload)) == workload
    job = job_id(workload, place)
    assert parse_job(job_text(job)) == job


def test_ids_have_an_external_form():
    assert workload_text(41) == "w41"
    assert job_text(job_id(41, 1)) == "w41-2"
    assert parse_job("w41-1000") == job_id(41, MAX_JOBS_A_WORKLOAD - 1)
    assert parse_job("w41-1001") is None


HOSTILE = [
    "", "w", "41", "w0", "w041", "w-1", "w+1", "w 1", " w1", "w1 ", "w1\n", "W1", "ww1", "w1.0",
    "w1e3", "w1_000", "w²", "w\uff11", "w٣", "w" + "9" * 16, "w" + "9" * 5_000, "w1\x00", "w1;drop",
    "../w1", "w%31", "\ud800", "w\ud800", "w1-", "w1-0", "w1-01", "w1-1001", "w1-9999", "w1-10000",
    "w1--1", "w1-1-1", "w1-+1", "w1- 1", "w1-1 ", "w1-\uff11", "w0-1", "-1", "-", "w-",
    "w1-" + "1" * 99,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_ids_are_invalid(text):
    assert parse_job(text) is None
    if "-" not in text or text == "w-1":
        assert parse_workload(text) is None


@given(st.text(alphabet="w0123456789-+ ²\uff11\n", max_size=8))
def test_any_text_is_the_id_that_it_prints_or_none(text):
    workload, job = parse_workload(text), parse_job(text)
    assert (workload is not None) is bool(re.fullmatch(r"w[1-9][0-9]{0,14}", text, re.ASCII))
    assert workload is None or workload_text(workload) == text
    assert job is None or job_text(job) == text


def test_each_kind_has_a_default_priority():
    assert default_priority(Kind.SSH, None, ()) == 80
    assert default_priority(Kind.DEPLOY, None, ("*",)) == 80
    assert default_priority(Kind.BUILD, "main", ()) == 50
    assert default_priority(Kind.BUILD, "main", ("release", "m*")) == 70
    assert default_priority(Kind.BUILD, None, ("*",)) == 50  # a tag is on no branch


def test_the_first_matching_pattern_gives_the_strategy():
    rules = [
        CancellationRule("main", Cancellation.NONE),
        CancellationRule("fix/*", Cancellation.ALL),
        CancellationRule("*", Cancellation.QUEUED),
    ]
    assert cancellation_for("main", rules).strategy is Cancellation.NONE
    assert cancellation_for("fix/a", rules).strategy is Cancellation.ALL
    assert cancellation_for("dev", rules).strategy is Cancellation.QUEUED
    assert cancellation_for(None, rules).strategy is Cancellation.NONE
    assert cancellation_for("dev", rules[:2]).strategy is Cancellation.NONE


def test_fail_fast_never_always_or_by_pattern():
    assert fails_fast("main", True)
    assert fails_fast(None, True)
    assert not fails_fast("main", False)
    assert fails_fast("fix/a", ["main", "fix/*"])
    assert not fails_fast("dev", ["main", "fix/*"])
    assert not fails_fast(None, ["*"])
    assert not fails_fast("main", [])


def test_a_lane_is_named_by_project_and_branch_tag_or_server():
    assert lane_key(Kind.BUILD, 7, "main", None, None) == "7/branch/main"
    assert lane_key(Kind.BUILD, 7, None, "v1", None) == "7/tag/v1"
    assert lane_key(Kind.DEPLOY, 7, None, None, "production") == "7/server/production"
    assert lane_key(Kind.SSH, 7, "main", None, None) is None


ENTRIES = st.tuples(
    st.integers(0, 100),
    st.floats(0, 1e6),
    st.integers(1, 10**6),
    st.sampled_from((None, 0.5, 60.0)),
)


@given(ENTRIES, ENTRIES)
def test_the_queue_is_ordered_by_priority_creation_and_registration(one, other):
    (priority, created, order, aging), (priority2, created2, order2, _) = one, other
    before = queue_key(priority, created, order, aging) < queue_key(
        priority2, created2, order2, aging
    )
    if aging is None:
        assert before == ((-priority, created, order) < (-priority2, created2, order2))
    else:
        aged, aged2 = created - priority * aging, created2 - priority2 * aging
        assert before == ((aged, order) < (aged2, order2))


def test_with_ageing_equal_workloads_are_ordered_by_registration():
    """100 s younger and 50 points higher, at 2 s per point: the same place in the queue."""
    assert queue_key(70, 100.0, 1, 2.0) < queue_key(20, 0.0, 2, 2.0)
    assert queue_key(20, 0.0, 1, 2.0) < queue_key(70, 100.0, 2, 2.0)

"""Every pair of state and move: the tables have the expected moves and no others."""

import itertools

import pytest

from boxsched.states import (
    JOB_TRANSITIONS,
    TRANSITIONS,
    IllegalMove,
    JobMove,
    JobState,
    Move,
    Result,
    State,
    moved,
)

# A workload's transitions once more, as a reader of docs/scheduling.md would write them.
WORKLOAD_MOVES = """
registered lane_free   queued
registered canceled    finished
registered plan_failed finished
queued     canceled    finished
queued     admitted    running
running    stop_asked  stopping
running    jobs_ended  finished
stopping   stop_asked  stopping
stopping   jobs_ended  finished
"""


@pytest.mark.parametrize(("state", "move"), list(itertools.product(State, Move)))
def test_every_move_of_a_workload(state, move):
    expected = {(a, b): c for a, b, c in map(str.split, WORKLOAD_MOVES.split("\n")[1:-1])}
    if (state, move) in expected:
        assert moved(TRANSITIONS, state, move) == expected[state, move]
    else:
        with pytest.raises(IllegalMove, match=f"the state {state} does not allow the move {move}"):
            moved(TRANSITIONS, state, move)


@pytest.mark.parametrize(("state", "move"), list(itertools.product(JobState, JobMove)))
def test_every_move_of_a_job(state, move):
    """Check what must hold for the whole table, pair by pair."""
    if (state, move) not in JOB_TRANSITIONS:
        with pytest.raises(IllegalMove):
            moved(JOB_TRANSITIONS, state, move)
        return
    after = moved(JOB_TRANSITIONS, state, move)
    assert state is not JobState.FINISHED, "what has finished stays so"
    assert after is not JobState.WAITING, "nothing goes back to waiting by itself"
    match move:
        case JobMove.CANCELED:
            assert (state, after) == (JobState.WAITING, JobState.FINISHED)
        case JobMove.ENDED:
            assert state is not JobState.WAITING
            assert after is JobState.FINISHED
        case JobMove.STOP_ASKED:
            assert after is JobState.STOPPING
        case JobMove.LOST_SIGHT:
            assert after is JobState.UNKNOWN
        case JobMove.ASSIGNED:
            assert (state, after) == (JobState.WAITING, JobState.ASSIGNED)
        case JobMove.STARTED:
            assert after in (JobState.RUNNING, JobState.STOPPING)
        case JobMove.SEEN_AGAIN:
            assert state is JobState.UNKNOWN


@pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.WAITING])
def test_every_workload_that_holds_a_box_can_end(state):
    if state is not JobState.FINISHED:
        assert moved(JOB_TRANSITIONS, state, JobMove.ENDED) is JobState.FINISHED


@pytest.mark.parametrize(("table", "states"), [(TRANSITIONS, State), (JOB_TRANSITIONS, JobState)])
def test_every_state_is_reached_and_all_but_the_last_are_left(table, states):
    first, *_, last = states
    assert set(table.values()) | {first} == set(states)
    assert {state for state, _ in table} == set(states) - {last}


def test_a_pair_of_another_table_is_not_a_move():
    with pytest.raises(IllegalMove):
        moved(TRANSITIONS, JobState.WAITING, Move.ADMITTED)


def test_the_results_are_those_of_the_docs():
    assert set(Result) == {"passed", "failed", "stopped", "canceled", "refused"}

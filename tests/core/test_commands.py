"""Commands for the leader: their exact form, and their defaults."""

import msgspec
import pytest

from boxsched.protocol import inbox

STARTED = inbox.JobStarted(1, 2, 3.0)


# --- Commands for the leader ----------------------------------------------------------------

COMMANDS: list[tuple[str, inbox.Command, bytes]] = [
    (
        "submit",
        inbox.Submit(
            *(1, 2, 3, "build", "b", None, None, None, None, None, 0, 1.0, "none", True),
            (inbox.SubmitJob("j", "d", 1.0, 2.0),),
        ),
        b'[1,2,3,"build","b",null,null,null,null,null,0,1.0,"none",true,[["j","d",1.0,2.0]]]',
    ),
    ("stop", inbox.Stop(1, "a"), b'[1,"a"]'),
    (
        "resolve",
        inbox.Resolve(1, 2, inbox.Resolution.AGAIN, "a", "n"),
        b'[1,2,"again","a","n"]',
    ),
    ("project", inbox.ProjectSet(1, "p", 5), b'[1,"p",5]'),
    ("boxes", inbox.BoxesSet(1, ((2, 3, "d"),)), b'[1,[[2,3,"d"]]]'),
    ("worker_forgotten", inbox.WorkerForgotten(1, 2, "a"), b'[1,2,"a"]'),
    (
        "worker_refused",
        inbox.RefusedWorker("w", "t", "10.0.0.2", "conflict", "m"),
        b'["w","t","10.0.0.2","conflict","m"]',
    ),
    ("drain", inbox.DrainSet(1, "a", "n", 2.0, None), b'[1,"a","n",2.0,null]'),
    ("drain_ended", inbox.DrainEnded(1, "a"), b'[1,"a"]'),
    ("reports", inbox.Reports(1, (STARTED,)), b'[1,[["started",1,2,3.0]]]'),
    ("commit", inbox.CommitFixed(1, "ab"), b'[1,"ab"]'),
    ("reload", inbox.Reload(), b"[]"),
    (
        "plan",
        inbox.Planned(1, (inbox.SubmitJob("j", "d", 1.0, 2.0),), "ab", None),
        b'[1,[["j","d",1.0,2.0]],"ab",null]',
    ),
    ("reprioritize", inbox.Reprioritize(1, 90, "a", "n"), b'[1,90,"a","n"]'),
    (
        "pause",
        inbox.PauseSet("p", 1, "b", None, True, "n", "a", 1.0, None),
        b'["p",1,"b",null,true,"n","a",1.0,null]',
    ),
    ("resume", inbox.PauseEnded("p", "a"), b'["p","a"]'),
    ("ghost_killed", inbox.GhostKilled(1, "w", 2, 3, 4, "a"), b'[1,"w",2,3,4,"a"]'),
    ("restore", inbox.Restore(1, 2, 3, 4, "a"), b'[1,2,3,4,"a"]'),
]


def test_a_leader_of_an_earlier_version_ignores_what_is_said_of_ghosts() -> None:
    """``Reports`` of the first schema that has ghosts."""

    class Earlier(msgspec.Struct, array_like=True):
        worker: int
        reports: tuple[object, ...]

    moved = inbox.GhostMoved(inbox.GhostMove.FOUND, "w", 2, 3, 4, True, True)
    kind, payload = inbox.written(inbox.Reports(1, (), (moved,)))
    assert kind == "reports"
    earlier = msgspec.json.decode(payload, type=Earlier)
    assert (earlier.worker, earlier.reports) == (1, ())


def grown(old: object, new: object) -> bool:
    """Whether lists only grow at their ends, also the lists inside them."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) <= len(new) and all(map(grown, old, new))
    return old == new


@pytest.mark.parametrize(("kind", "command", "payload"), COMMANDS)
def test_a_leader_reads_the_commands_of_an_earlier_version(
    kind: str, command: inbox.Command, payload: bytes
) -> None:
    assert inbox.read(kind, payload) == command
    written = inbox.written(command)
    assert written[0] == kind
    assert grown(msgspec.json.decode(payload), msgspec.json.decode(written[1]))
    assert inbox.read(*written) == command


def test_fields_that_are_missing_in_an_earlier_command_change_nothing() -> None:
    submit = COMMANDS[0][1]
    assert isinstance(submit, inbox.Submit)
    assert (submit.spare_after, submit.automatic, submit.queue) == (None, False, "all")
    project = inbox.ProjectSet(1, "p", 5)
    assert (project.deleted, project.followed, project.notifies) == (False, {}, False)
    boxes = inbox.BoxesSet(1, ())
    assert (boxes.node, boxes.connection, boxes.problem) == ("", 0, None)


def test_every_kind_of_command_is_in_the_examples() -> None:
    assert {kind for kind, _, _ in COMMANDS} == {*inbox.KINDS}


@pytest.mark.parametrize("command", [*inbox.KINDS.values(), inbox.SubmitJob])
def test_every_command_is_written_as_an_array(command: type[msgspec.Struct]) -> None:
    assert command.__struct_config__.array_like
    assert command.__struct_config__.frozen


def test_an_unreadable_command_is_refused() -> None:
    with pytest.raises(KeyError):
        inbox.read("another", b"[]")
    with pytest.raises(msgspec.DecodeError):
        inbox.read("stop", b"[1]")
    with pytest.raises(msgspec.DecodeError):
        inbox.read("resolve", b'[1,2,"perhaps","a","n"]')

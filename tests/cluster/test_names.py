"""Names of nodes, and which nodes are shown as alive, without a server."""

from pathlib import Path

import pytest

from boxsched.cluster.names import FILE, node_name
from boxsched.cluster.shares import LockView
from boxsched.cluster.standing import NodeStanding, standing
from boxsched.errors import Invalid
from boxsched.protocol.lock_keys import node_number
from boxsched.store.records import NodeInfo

# --- Names --------------------------------------------------------------------------------------


def test_a_name_is_created_once_and_kept_in_the_data_folder(tmp_path: Path) -> None:
    made = node_name(None, tmp_path)
    assert node_name(None, tmp_path) == made
    assert (tmp_path / FILE).read_text() == f"{made}\n"
    assert [path.name for path in tmp_path.iterdir()] == [FILE], "no draft is left"


def test_two_data_folders_give_two_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert node_name(None, tmp_path / "a") != node_name(None, tmp_path / "b")


@pytest.mark.parametrize(
    ("host", "start"),
    [
        ("build-7.example", "build-7.example-"),
        ("Zoë's host", "Zo--s-host-"),
        ("-_.odd", "odd-"),
        ("...", "node-"),
        ("", "node-"),
        ("h" * 80, "h" * 50 + "-"),
    ],
)
def test_a_generated_name_starts_with_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, start: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    made = node_name(None, tmp_path)
    assert made.startswith(start) and len(made) == len(start) + 6


def test_an_explicit_name_is_used_and_not_stored(tmp_path: Path) -> None:
    kept = node_name(None, tmp_path)
    assert node_name("given", tmp_path) == "given"
    assert node_name(None, tmp_path) == kept


@pytest.mark.parametrize("name", ["a", "9", "A.b_c-d", "n" * 63])
def test_good_names(tmp_path: Path, name: str) -> None:
    assert node_name(name, tmp_path) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a\n", "é", "n" * 64])
def test_bad_names_are_refused_also_where_the_folder_has_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="is not a valid node name"):
        node_name(name, tmp_path)
    (tmp_path / FILE).write_text(f"{name}!\n")
    with pytest.raises(Invalid, match="is not a valid node name"):
        node_name(None, tmp_path)


# --- Which nodes are alive, and what they lead -------------------------------------------------

A, B, C = (node_number(name) for name in "abc")


def nodes() -> list[NodeInfo]:
    return [
        NodeInfo(id_, name, f"http://{name}", "1.2", "protocol=1", 10.0 * id_, 20.0 * id_)
        for id_, name in enumerate("abc", 1)
    ]


def test_the_locks_show_which_nodes_are_alive_and_what_they_lead() -> None:
    view = LockView(A, frozenset({A, C}), {3: C, 1: C, 2: A})
    assert standing(nodes(), view, "a") == [
        NodeStanding(1, "a", "http://a", "1.2", "protocol=1", True, (2,), True, 10.0, 20.0),
        NodeStanding(2, "b", "http://b", "1.2", "protocol=1", False, (), False, 20.0, 40.0),
        NodeStanding(3, "c", "http://c", "1.2", "protocol=1", True, (1, 3), False, 30.0, 60.0),
    ]


def test_a_node_that_sees_no_locks_knows_only_itself() -> None:
    found = standing(nodes(), None, "b")
    assert [(one.name, one.alive, one.me, one.shards) for one in found] == [
        ("a", False, False, ()),
        ("b", True, True, ()),
        ("c", False, False, ()),
    ]

"""The mutation tool: what it changes, what it does not change, and what counts as caught."""

import ast
import subprocess
from pathlib import Path

import pytest

from tests.mutation.changes import chosen, mutants_of
from tests.mutation.nearest import Nearest
from tests.mutation.places import naming, places
from tests.mutation.runs import Copy, Outcome

SOURCE = '''\
"""A module with the number 1 in its docstring."""

import logging

_log = logging.getLogger("x")
MOST: int = 5


def room(used: int, asked: int) -> bool:
    """Whether so many fit."""
    assert used >= 0
    _log.info("asked for %d", asked + 0)
    if not used and asked <= MOST:
        raise_flag(f"{used - 1}")
        return True
    return used + asked < MOST
'''

TESTS = """\
import pytest

from shop.room import MOST, room


def test_room():
    assert room(1, 3)
    assert not room(3, 3)


def test_slow():
    assert room(1, 1)


@pytest.mark.parametrize("most", [MOST])
def test_limit(most):
    assert most == 5
"""


def project(folder: Path) -> Path:
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "room.py").write_text(SOURCE)
    (folder / "test_room.py").write_text(TESTS)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def test_a_module_has_these_changes(tmp_path: Path) -> None:
    found = mutants_of(project(tmp_path), "shop/room.py")
    assert [(one.line, one.before, one.after) for one in found] == [
        (6, "5", "6"),
        (13, "not used", "(used)"),
        (13, "not used and asked <= MOST", "(not used or asked <= MOST)"),
        (13, "asked <= MOST", "(asked < MOST)"),
        (13, "asked <= MOST", "(asked > MOST)"),
        (14, 'raise_flag(f"{used - 1}")', "pass"),
        (15, "return True", "return None"),
        (15, "True", "False"),
        (16, "return used + asked < MOST", "return None"),
        (16, "used + asked", "(used - asked)"),
        (16, "used + asked < MOST", "(used + asked <= MOST)"),
        (16, "used + asked < MOST", "(used + asked >= MOST)"),
    ]
    for one in found:
        ast.parse(one.applied(SOURCE.encode()))
        assert one.applied(SOURCE.encode()) != SOURCE.encode()


def test_a_worker_that_no_node_could_observe_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "def odd(self, x):\n"
        "    if x > 1:\n"
        "        self._log.info('large', x + 1)\n"
        "    if not x:\n"
        "        return False\n"
        "    return None\n"
    )
    found = [(one.line, one.before, one.after) for one in mutants_of(tmp_path, "odd.py")]
    assert found == [(4, "not x", "(x)"), (5, "False", "True")]


def test_a_seed_chooses_the_same_mutants_and_at_most_one_per_line(tmp_path: Path) -> None:
    found = mutants_of(project(tmp_path), "shop/room.py")
    assert chosen(found, 3, 4) == chosen(list(found), 3, 4)
    assert len(chosen(found, 3, 4)) == 4
    assert sorted(one.line for one in chosen(found, 3, None)) == [6, 13, 14, 15, 16]
    assert len({tuple(map(str, chosen(found, seed, 3))) for seed in range(9)}) > 1


def test_the_nearest_tests_are_those_that_ran_the_line_quickest_first() -> None:
    file = "boxsched/gateway/line.py"
    nearest = Nearest(
        {"tests/gateway/a": 3.0, "tests/gateway/b": 1.0, "tests/worker/c": 2.0},
        {(file, 7): {"tests/gateway/a", "tests/worker/c"}, (file, 9): {"tests/gateway/b"}},
    )
    seven, eight, nine = [(file, 7)], [(file, 8)], [(file, 9)]
    assert nearest.tests(file, [seven], 60) == ["tests/worker/c", "tests/gateway/a"]
    assert nearest.tests(file, [seven], 2.5) == ["tests/worker/c"]
    assert nearest.tests(file, [seven], 0.5) == ["tests/worker/c"], "one at least"
    assert nearest.tests(file, [eight, nine, seven], 60) == ["tests/gateway/b"]
    # No test ran line 8 in its own process: all tests of the room.
    assert nearest.tests(file, [eight], 60) == ["tests/gateway/b", "tests/gateway/a"]
    # A test that names a constant may assert its value.
    assert nearest.tests(file, [nine], 60, {"tests/worker/c"}) == [
        "tests/gateway/b",
        "tests/worker/c",
    ]


SHELF = """\
import attrs

MOST = 5


@attrs.define(eq=False)
class Shelf:
    boxes: int = 2

    def __repr__(self):
        return str(self.boxes + 1)

    def room(
        self,
        used=0,
    ):
        if used > 9:
            _log.info("odd")
        return max(
            self.boxes,
            MOST - used,
        )
"""


def test_which_lines_show_a_change(tmp_path: Path) -> None:
    """A default is run by the first import of its module, so only its uses matter."""
    file = "boxsched/shelf.py"
    (tmp_path / "boxsched").mkdir()
    (tmp_path / file).write_text(SHELF)
    other = tmp_path / "boxsched" / "other.py"
    other.write_text("def empty(shelf):\n    return shelf.boxes == 0\n")
    found = {
        f"{one.line}: {one.after}": [
            [line if where == file else -line for where, line in group]
            for group in places(tmp_path, one)
        ]
        for one in mutants_of(tmp_path, file)
    }
    (tmp_path / "tests" / "one").mkdir(parents=True)
    (tmp_path / "tests" / "one" / "test_most.py").write_text("assert MOST == 5\n")
    (tmp_path / "tests" / "one" / "test_almost.py").write_text("assert ALMOST == 5\n")
    named = {one.line: naming(tmp_path, one) for one in mutants_of(tmp_path, file)}
    assert named == {
        **dict.fromkeys((8, 15, 19, 21), frozenset()),
        3: {"tests/one/test_most.py"},
    }
    body = [17, 18, 19, 20, 21, 22]
    assert found == {
        "3: 6": [[21], [11, *body]],
        "8: 3": [[-2, 11, 20], [11, *body]],
        "15: 1": [body],
        "19: return None": [[19, 20, 21, 22], [19]],
        "19: min(self.boxes, MOST - used)": [[19, 20, 21, 22], [19]],
        "21: (MOST + used)": [[21], [19]],
    }


def test_a_mutant_is_tried_only_in_the_copy(tmp_path: Path) -> None:
    tree = project(tmp_path / "tree")
    copy = Copy(tree, tmp_path / "copy")
    by_change = {str(one).split(": ", 1)[1]: one for one in mutants_of(tree, "shop/room.py")}
    caught = by_change["used + asked  ->  (used - asked)"]
    missed = by_change["asked <= MOST  ->  (asked < MOST)"]
    assert copy.tried(caught, ["test_room.py::test_room"], 60) is Outcome.CAUGHT
    assert copy.tried(caught, ["test_room.py::test_slow"], 60) is Outcome.SURVIVED
    assert copy.tried(missed, ["test_room.py"], 60) is Outcome.SURVIVED
    assert copy.tried(missed, ["test_room.py"], 0) is Outcome.OUT_OF_TIME
    # Its name contains the constant that the mutant changes.
    limit = by_change["5  ->  6"]
    assert copy.tried(limit, ["test_room.py::test_limit[5]"], 60) is Outcome.CAUGHT
    with pytest.raises(ValueError, match="could not run no_test"):
        copy.tried(limit, ["no_test.py"], 60)
    for folder in (tree, copy.folder):
        assert (folder / "shop" / "room.py").read_text() == SOURCE

"""Every call that reads or changes what belongs to an organization says which one.

The parameters have a default only for tests: in the product, a forgotten one would show the default
organization's values to others.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import boxsched
from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.node.node import Node
from boxsched.store.records import WorkloadFilter
from boxsched.store.store import Store

ROOT = Path(boxsched.__file__).parent
NAMES = ("organization", "shard")
COMMON = ("get", "forget")  # methods of many things have these names


def asked() -> dict[str, list[str]]:
    """By method: its parameters, of those that have one of NAMES with a default."""
    found = {}
    for kind in (Store, KnownProjects, Node):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            parameters = inspect.signature(method).parameters
            if any(p in parameters and parameters[p].default is not p for p in NAMES):
                optional = [
                    p for p in NAMES
                    if p in parameters and parameters[p].default is not inspect.Parameter.empty
                ]  # fmt: skip
                if optional:
                    found[name] = [each for each in parameters if each != "self"]
    found["WorkloadFilter"] = list(inspect.signature(WorkloadFilter).parameters)
    return found


ASKED = {name: asked for name, asked in asked().items() if name not in COMMON}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "WorkloadFilter":
            yield node.func.id, node
        elif isinstance(node.func, ast.Attribute) and node.func.attr in ASKED:
            owner = node.func.value
            whose = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if whose.strip("_") in ("store", "known", "node"):
                yield node.func.attr, node


def test_the_methods_are_found() -> None:
    assert {"project", "workers", "activity", "books", "fresh", "set_aside"} <= ASKED.keys()


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(ROOT.rglob("*.py")) if ROOT / "store" not in path.parents],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_each_call_says_whose(path: Path) -> None:
    for name, call in calls(path):
        given = [*ASKED[name][: len(call.args)], *(keyword.arg for keyword in call.keywords)]
        assert any(one in given for one in NAMES), f"{path.name}:{call.lineno}: {name}"

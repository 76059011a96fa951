"""The core is pure: it imports almost nothing, and the same input gives the same output."""

import ast

import pytest

from tests.conftest import PROJECT

CORE = PROJECT / "boxsched" / "scheduling"
OURS = ("boxsched.globs", "boxsched.model", "boxsched.states", "boxsched.scheduling")
HARMLESS = {
    "attrs", "sortedcontainers", "collections", "heapq", "typing", "enum", "math", "itertools",
    "functools", "bisect", "statistics", "operator", "types",
}  # fmt: skip
IMPURE_NAMES = {"open", "print", "input", "eval", "exec", "__import__", "globals", "id", "hash"}
MODEL = ("globs.py", "model.py", "states.py")
FILES = sorted(CORE.rglob("*.py")) + [PROJECT / "boxsched" / f for f in MODEL]
MODEL_MAY = {
    "boxsched.globs", "bisect", "collections", "enum", "functools", "itertools", "typing",
}  # fmt: skip

pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module


def test_the_core_imports_only_what_is_allowed(path):
    allowed = HARMLESS if path.is_relative_to(CORE) else MODEL_MAY
    for name in imported(ast.parse(path.read_text())):
        ours = path.is_relative_to(CORE) and any(f"{name}.".startswith(f"{o}.") for o in OURS)
        assert ours or {name, name.split(".")[0]} & allowed, f"{path.name} imports {name}"


def test_the_core_has_no_coroutine_no_output_and_no_global_state(path):
    for node in ast.walk(ast.parse(path.read_text())):
        line = f"{path.name}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith)
        assert not isinstance(node, ast.Global), line
        # id() and hash() differ between processes, so nothing may depend on them.
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in IMPURE_NAMES, f"{line} calls {node.func.id}"

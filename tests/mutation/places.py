"""The lines whose tests may notice a mutant.

A line inside a function is run by the tests that reach it. A default argument, a module's constant
or a field's default is run once, by the first import of the module; its effect shows in the
function's body, or where the name is used.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from tests.mutation.changes import Mutant

Place = tuple[str, int]  # a file, relative to the project, and a line of it
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def naming(project: Path, mutant: Mutant) -> frozenset[str]:
    """Return the test files that name the changed constant: they may assert its value."""
    around = _around(_tree(project, mutant.file), project / mutant.file, mutant)
    name = None if any(isinstance(node, _Function) for node in around) else _target(around)
    if name is None:
        return frozenset()
    word = re.compile(rf"\b{name}\b")
    files = (project / "tests").rglob("test_*.py")
    return frozenset(str(p.relative_to(project)) for p in files if word.search(p.read_text()))


def places(project: Path, mutant: Mutant) -> Sequence[Sequence[Place]]:
    """Return groups of lines; the tests of the first group that any test ran are used."""
    around = _around(_tree(project, mutant.file), project / mutant.file, mutant)
    inner = next((n for n, node in enumerate(around) if isinstance(node, _Function)), None)
    if inner is None:
        return (_uses(project, _target(around)), _bodies(_tree(project, mutant.file), mutant.file))
    function = around[inner]
    assert isinstance(function, _Function)
    body = function.body if isinstance(function.body, list) else [function.body]
    if inner and around[inner - 1] not in body:  # a default argument
        return ([(mutant.file, line) for each in body for line in _lines(each)],)
    statement = next(node for node in around if isinstance(node, ast.stmt))
    own = range(mutant.line, mutant.line + mutant.before.count("\n") + 1)
    return ([(mutant.file, line) for line in own], [(mutant.file, statement.lineno)])


@cache
def _tree(project: Path, file: str) -> ast.Module:
    return ast.parse((project / file).read_bytes())


def _lines(node: ast.AST) -> range:
    assert isinstance(node, ast.stmt | ast.expr)
    assert node.end_lineno is not None
    return range(node.lineno, node.end_lineno + 1)


def _around(tree: ast.Module, path: Path, mutant: Mutant) -> list[ast.AST]:
    """Return the nodes around a mutant, innermost first."""
    lines = path.read_bytes().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def holds(node: ast.AST) -> bool:
        if not isinstance(node, ast.stmt | ast.expr):
            return any(map(holds, ast.iter_child_nodes(node)))  # an argument list, a case
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        return begin <= mutant.start and mutant.end <= end

    around: list[ast.AST] = []
    node: ast.AST | None = tree
    while node is not None:
        node = next(filter(holds, ast.iter_child_nodes(node)), None)
        if isinstance(node, ast.stmt | ast.expr):
            around.insert(0, node)
    return around


def _bodies(tree: ast.Module, file: str) -> list[Place]:
    """Return all lines of a module that are inside a function."""
    return [
        (file, line)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        for line in _lines(statement)
    ]


def _target(around: Sequence[ast.AST]) -> str | None:
    """Return the name that gets the changed value, if there is one."""
    for node in around:
        match node:
            case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)):
                return name
    return None


def _uses(project: Path, name: str | None) -> list[Place]:
    """Return where the name is read inside functions of any module of the product."""
    if name is None:
        return []
    return [
        (file, line)
        for path in sorted((project / "boxsched").rglob("*.py"))
        for file in [str(path.relative_to(project))]
        for line in _read_in(_tree(project, file), name)
    ]


def _read_in(tree: ast.Module, name: str) -> Iterator[int]:
    for function in ast.walk(tree):
        if isinstance(function, _Function):
            for node in ast.walk(function):
                match node:
                    case ast.Name(id=used) | ast.Attribute(attr=used) if used == name:
                        yield node.lineno

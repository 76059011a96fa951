"""One small change to one node of a module's syntax tree, as text: a mutant."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import attrs

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
# Nothing else depends on assertions and messages; in f-strings, Python 3.11 has no exact positions.
_LEFT_ALONE = (ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr)
_OF_PARTS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.AnnAssign)
# a mutant that affects only the log is not worth a test
_LOGGERS = {"log", "_log", "logger", "_logger"}
_FOR_PEOPLE = {"__repr__"}  # methods that are only for debugging


@attrs.frozen
class Mutant:
    """``file`` with the bytes from ``start`` to ``end`` replaced by ``after``."""

    file: str  # relative to the project
    line: int  # 1 for the first
    start: int
    end: int
    before: str
    after: str

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]

    def __str__(self) -> str:
        before, after = (" ".join(text.split()) for text in (self.before, self.after))
        return f"{self.file}:{self.line}: {before}  ->  {after}"


def mutants_of(project: Path, file: str) -> list[Mutant]:
    """Return every mutant of a file, in the order of the text."""
    source = (project / file).read_bytes()
    found = [
        _mutant(file, source, node, after)
        for node in _nodes(ast.parse(source))
        for after in _changes(node)
    ]
    return sorted(found, key=lambda one: (one.start, one.end, one.after))


def chosen(mutants: list[Mutant], seed: int, count: int | None) -> list[Mutant]:
    """Return a random sample, at most one mutant per line; of all lines if ``count`` is None."""
    by_chance = random.Random(seed)
    shuffled = by_chance.sample(mutants, len(mutants))
    by_line = {(one.file, one.line): one for one in reversed(shuffled)}
    return [one for one in shuffled if by_line[one.file, one.line] is one][:count]


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Return the nodes of a tree that decide something: no annotations, assertions, logging,
    messages."""
    for child in ast.iter_child_nodes(tree):
        if _is_left_alone(child):
            continue
        # how a class is generated is not behaviour: frozen, slots, eq
        if isinstance(child, ast.ClassDef):
            for statement in child.body:
                yield from _of_value(statement)
            continue
        if isinstance(child, ast.AnnAssign):
            if child.value is not None:
                yield from _of_value(child.value)
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for default in (*child.args.defaults, *child.args.kw_defaults):
                if default is not None:
                    yield from _of_value(default)
            body = child.body if isinstance(child.body, list) else [child.body]
            for statement in body:
                yield from _of_value(statement)
            continue
        yield from _of_value(child)


def _of_value(node: ast.AST) -> Iterator[ast.AST]:
    if _is_left_alone(node):
        return
    if isinstance(node, _OF_PARTS):
        yield from _nodes(ast.Module([node], []))  # type: ignore[list-item]
        return
    yield node
    yield from _nodes(node)


def _is_left_alone(node: ast.AST) -> bool:
    return (
        isinstance(node, _LEFT_ALONE)
        or _logs(node)
        or (isinstance(node, ast.FunctionDef) and node.name in _FOR_PEOPLE)
    )


def _logs(node: ast.AST) -> bool:
    """Whether the statement only logs, also under a condition."""
    match node:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(name) | ast.Attribute(attr=name)))):
            return name in _LOGGERS
        case ast.If(body=body, orelse=orelse):
            return all(map(_logs, (*body, *orelse)))
    return False


def _changes(node: ast.AST) -> Iterator[str]:
    """Return the source texts that may replace the node."""
    match node:
        case ast.Compare(left, [operator], [right]):
            for other in _COMPARED[type(operator)]:
                yield _text(ast.Compare(left, [other()], [right]))
        case ast.BoolOp(operator, values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield _text(ast.BoolOp(other, values))
        case ast.UnaryOp(ast.Not(), operand):
            yield _text(operand)
        case ast.BinOp(left, operator, right) if type(operator) in _COMPUTED:
            if not any(isinstance(side, ast.JoinedStr | ast.List) for side in (left, right)):
                yield _text(ast.BinOp(left, _COMPUTED[type(operator)](), right))
        case ast.AugAssign(target, operator, value) if type(operator) in _COMPUTED:
            yield ast.unparse(ast.AugAssign(target, _COMPUTED[type(operator)](), value))
        case ast.Constant(bool(value)):
            yield str(not value)
        case ast.Constant(int(value) | float(value)):
            yield repr(value + 1)
        case ast.IfExp(test, body, orelse):
            yield _text(ast.IfExp(test, orelse, body))
        case ast.Call(ast.Name(name), arguments, keywords) if name in _CALLED:
            yield ast.unparse(ast.Call(ast.Name(_CALLED[name]), arguments, keywords))
        case _:
            yield from _other_statements(node)


def _other_statements(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Return(value) if value is not None and not _is_false(value):
            yield "return None"
        case ast.Expr(ast.Call() | ast.Await()) | ast.Raise() | ast.Delete():
            yield "pass"
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield "pass"
        case ast.Continue():
            yield "break"
        case ast.Break():
            yield "continue"


def _is_false(node: ast.AST) -> bool:
    """Whether replacing it with None changes nothing for code that tests its truth."""
    return isinstance(node, ast.Constant) and not node.value


def _text(node: ast.expr) -> str:
    return f"({ast.unparse(node)})"


def _mutant(file: str, source: bytes, node: ast.AST, after: str) -> Mutant:
    assert isinstance(node, ast.expr | ast.stmt)
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    lines = source.splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    return Mutant(file, node.lineno, start, end, source[start:end].decode(), after)

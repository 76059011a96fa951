"""The file in a repository that holds the jobs of its builds: read within bounds, never executed.

YAML or JSON (which is YAML, too). A mistake is named with its line and column.
"""

import math
import re
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta, Struct

from boxsched.api.http.bodies import Form
from boxsched.api.messages import checks
from boxsched.api.messages.requests import Jobs
from boxsched.errors import BoxschedError
from boxsched.node.node import DEFAULT_BOX_TYPE
from boxsched.store.records import JobSpec

MAX_BYTES = 256 * 1024
MAX_NODES = 20_000  # with every alias counted as what it stands for
MAX_DEPTH = 32
_MAX_DIGITS = 18

_STEP = re.compile(r"\[(?P<index>[0-9]+)\]|\.?(?P<name>[^.\[\]]+)")


class WrongFile(Exception):
    """What is wrong with the file, with its place, for a person."""


class PlanFile(Struct, forbid_unknown_fields=True, frozen=True):
    """``jobs``: as in a project's settings. ``version`` is 1."""

    jobs: Jobs
    version: Annotated[int, Meta(ge=1, le=1)] = 1


_form = Form(PlanFile)


def jobs_of(data: bytes) -> tuple[JobSpec, ...]:
    """The jobs in the file; raises WrongFile."""
    if len(data) > MAX_BYTES:
        raise WrongFile(f"it has more than {MAX_BYTES} bytes")
    root = _composed(data)
    try:
        plan = _form.read(msgspec.json.encode(_value(root)))
        checks.bulk(plan.jobs, "jobs")
        return checks.specs(plan.jobs, DEFAULT_BOX_TYPE)
    except BoxschedError as error:
        field = f"{error.field}: " if error.field else ""
        raise WrongFile(f"{_place(root, error.field or '')}{field}{error.message}") from None


def _composed(data: bytes) -> yaml.Node:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WrongFile(f"line {line}: this is not UTF-8") from None
    try:
        _check_size(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise WrongFile(f"{_at(mark)}{error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise WrongFile(str(error).splitlines()[0]) from None
    if root is None:
        raise WrongFile("line 1, column 1: the file is empty; it needs a list of jobs")
    return root


def _check_size(text: str) -> None:
    """Count what an expansion of all aliases would give, without expanding them."""
    sizes: dict[str, int] = {}
    around: list[tuple[str | None, int]] = [(None, 0)]  # (anchor, nodes so far)

    def add(anchor: str | None, size: int) -> None:
        if anchor is not None:
            sizes[anchor] = size
        before, so_far = around[-1]
        around[-1] = (before, so_far + size)

    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            around.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            add(*around.pop())
        elif isinstance(event, yaml.ScalarEvent):
            add(event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            inside = any(anchor == event.anchor for anchor, _ in around)  # itself: too many
            add(None, MAX_NODES if inside else sizes.get(event.anchor or "", 1))
        if len(around) > MAX_DEPTH + 1:
            raise WrongFile(f"{_at(event.start_mark)}nested deeper than {MAX_DEPTH} levels")
        if around[-1][1] > MAX_NODES:
            raise WrongFile(f"more than {MAX_NODES} values, aliases counted in full")


def _value(node: yaml.Node) -> Any:
    """The value of a node, for JSON: a text stays one, whatever YAML 1.1 would make of it."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = _key(key)
            if name in found:
                raise WrongFile(f"{_at(key.start_mark)}{name!a} is there twice")
            found[name] = _value(value)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(one) for one in node.value]
    return _scalar(node)


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:merge":
        raise WrongFile(f"{_at(node.start_mark)}a key must be a string")
    return str(node.value)


def _scalar(node: yaml.Node) -> Any:
    kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), str(node.value)
    if kind in ("str", "timestamp"):
        return text
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind == "int" and re.fullmatch(r"[-+]?(0|[1-9][0-9]*)", text) and len(text) <= _MAX_DIGITS:
        return int(text)
    if kind == "float" and re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?", text):
        number = float(text)
        if math.isfinite(number):
            return number
    if kind in ("bool", "int", "float"):
        return text  # yes, on, 0x10, 1:30: texts here
    raise WrongFile(f"{_at(node.start_mark)}the tag {node.tag[:60]!a} is not taken")


def _place(root: yaml.Node, field: str) -> str:
    """Where the value of a field such as ``jobs[0].name`` stands, or what is around it."""
    node = root
    for step in _STEP.finditer(field):
        inner: yaml.Node | None = None
        if step["index"] is not None and isinstance(node, yaml.SequenceNode):
            index = int(step["index"])
            inner = node.value[index] if index < len(node.value) else None
        elif isinstance(node, yaml.MappingNode):
            inner = next((value for key, value in node.value if key.value == step["name"]), None)
        if inner is None:
            break
        node = inner
    return _at(node.start_mark)


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""

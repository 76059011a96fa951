"""Read a job file within limits; nothing in it is executed.

It is YAML or JSON. The message about a mistake contains its line and column.
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
from boxsched.model import DEFAULT_BOX_TYPE
from boxsched.store.records import JobSpec

MAX_BYTES = 256 * 1024
MAX_NODES = 20_000  # in a file, with all aliases expanded
MAX_DEPTH = 32
_MAX_DIGITS = 18
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

_STEP = re.compile(r"\[(?P<index>[0-9]+)\]|\.?(?P<name>[^.\[\]]+)")


class WrongFile(Exception):
    """The message says what is wrong with the file. ``line``, ``column``: from 1, if known."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column

    def __str__(self) -> str:
        if self.line is None:
            return self.message
        column = "" if self.column is None else f", column {self.column}"
        return f"line {self.line}{column}: {self.message}"


class JobFile(Struct, forbid_unknown_fields=True, frozen=True):
    """A file with the jobs of a build. ``jobs``: as in a project's settings. ``version`` is 1."""

    jobs: Jobs
    version: Annotated[int, Meta(ge=1, le=1)] = 1


_form = Form(JobFile)


def jobs_of(data: bytes) -> tuple[JobSpec, ...]:
    """Return the jobs of a build, with ``parallelism`` expanded into separate jobs. Raises
    WrongFile.
    """
    return specs(read(data))


def specs(found: JobFile) -> tuple[JobSpec, ...]:
    return checks.specs(found.jobs, DEFAULT_BOX_TYPE)


def read(data: bytes) -> JobFile:
    """Read and check the file. Raises WrongFile."""
    if len(data) > MAX_BYTES:
        raise WrongFile(f"it has more than {MAX_BYTES} bytes")
    root = _composed(data)
    try:
        found = _form.read(msgspec.json.encode(_value(root)))
        checks.bulk(found.jobs, "jobs")
    except BoxschedError as error:
        field = f"{error.field}: " if error.field else ""
        mark = _mark(root, error.field or "", key=error.message.startswith("unknown field"))
        raise _wrong(mark, f"{field}{error.message}") from None
    return found


def value(data: bytes) -> Any:
    """Return the file's content as JSON values. Raises WrongFile."""
    return _value(_composed(data))


def _composed(data: bytes) -> yaml.Node:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WrongFile("the file is not UTF-8", line) from None
    try:
        _check_size(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _wrong(error.problem_mark or error.context_mark, str(error.problem)) from None
    except yaml.reader.ReaderError as error:
        raise _unreadable(text, error) from None
    except (yaml.YAMLError, ValueError) as error:
        raise WrongFile(str(error).splitlines()[0]) from None
    if root is None:
        raise WrongFile("the file is empty; it needs a list of jobs", 1, 1)
    return root


def _unreadable(text: str, error: yaml.reader.ReaderError) -> WrongFile:
    """Return the error about a character that YAML does not allow, with its place."""
    before = text[: error.position]
    line = before.count("\n") + 1
    column = error.position - before.rfind("\n")
    return WrongFile(f"the character {chr(error.character)!a} is not allowed", line, column)


def _check_size(text: str) -> None:
    """Count the values after expansion of all aliases, without expanding them."""
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
            # an alias inside its own anchor: too many values
            inside = any(anchor == event.anchor for anchor, _ in around)
            add(None, MAX_NODES if inside else sizes.get(event.anchor or "", 1))
        if len(around) > MAX_DEPTH + 1:
            raise _wrong(event.start_mark, f"nested deeper than {MAX_DEPTH} levels")
        if around[-1][1] > MAX_NODES:
            raise WrongFile(f"more than {MAX_NODES} values, with all aliases expanded")


def _value(node: yaml.Node) -> Any:
    """Return a node's value for JSON. Texts stay texts, also those that YAML 1.1 would convert."""
    if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_TAGS:
        raise _wrong(node.start_mark, f"the tag {node.tag[:60]!a} is not allowed")
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = _key(key)
            if name in found:
                raise _wrong(key.start_mark, f"{name!a} occurs twice")
            found[name] = _value(value)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(one) for one in node.value]
    return _scalar(node)


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:merge":
        raise _wrong(node.start_mark, "a key must be a string")
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
        return text  # yes, on, 0x10 and 1:30 are texts here
    raise _wrong(node.start_mark, f"the tag {node.tag[:60]!a} is not allowed")


def _mark(root: yaml.Node, field: str, *, key: bool = False) -> Any:
    """Return the place of a field such as ``jobs[0].name``, or else of the part around it.

    ``key``: the place of the field's name, not of its value.
    """
    node = place = root
    for step in _STEP.finditer(field):
        name: yaml.Node | None = None
        inner: yaml.Node | None = None
        if step["index"] is not None and isinstance(node, yaml.SequenceNode):
            index = int(step["index"])
            inner = node.value[index] if index < len(node.value) else None
        elif isinstance(node, yaml.MappingNode):
            name, inner = next(
                (pair for pair in node.value if pair[0].value == step["name"]), (None, None)
            )
        if inner is None:
            break
        node, place = inner, name if key and name is not None else inner
    return place.start_mark


def _wrong(mark: Any, message: str) -> WrongFile:
    if mark is None:
        return WrongFile(message)
    return WrongFile(message, mark.line + 1, mark.column + 1)

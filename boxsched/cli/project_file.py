"""Project files, JSON or YAML, read within bounds before anything is built from them."""

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

from boxsched.cli.failing import BadInput
from boxsched.client.records import Settings
from boxsched.texts import encodable

STANDARD_INPUT = Path("-")
MAX_YAML_BYTES = 64 * 1024
MAX_JSON_BYTES = 1024 * 1024
MAX_NODES = 10_000  # with every alias counted as what it stands for
MAX_DEPTH = 32
_MAX_DIGITS = 18  # of a whole number, with its sign
_SHOWN_CHARACTERS = 60


class _Wrong(ValueError):
    """What is wrong with the file, for a person."""


@attrs.frozen
class ProjectFile:
    """One project of a file: what is sent is ``settings``; ``name`` goes into the path."""

    name: str
    settings: Settings


def read(path: Path, name: str | None = None) -> list[ProjectFile]:
    """The projects of a file, or with ``-`` of standard input; ``name`` names the only one, where
    it has none. Raises Failure (bad input)."""
    place = "standard input" if path == STANDARD_INPUT else str(path)
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MAX_JSON_BYTES + 1)
            is_json = data.lstrip()[:1] in (b"{", b"[")
        else:
            data = path.read_bytes()
            is_json = path.suffix == ".json"
        value = _json(data) if is_json else _yaml(data)
        _check_values(value)
        return _projects(value, name)
    except OSError as error:
        raise BadInput(f"{place}: {error.strerror}") from None
    except _Wrong as error:
        raise BadInput(f"{place}: {error}") from None


def without_jobs(settings: Settings) -> list[str]:
    """The lists of jobs that are there and empty. That is allowed, and rarely meant."""
    found = [("jobs", settings)]
    servers = settings.get("servers")
    if isinstance(servers, Mapping):
        found += [(f"servers.{name}.jobs", its) for name, its in servers.items()]
    return [field for field, its in found if isinstance(its, Mapping) and its.get("jobs") == []]


def _projects(value: object, name: str | None) -> list[ProjectFile]:
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise _Wrong("there is no project in it")
    if name is not None and len(listed) > 1:
        raise _Wrong(f"--name is for a file of one project; this one has {len(listed)}")
    found = []
    for number, one in enumerate(listed):
        place = f"[{number}]" if isinstance(value, list) else ""
        if not isinstance(one, dict):
            raise _Wrong(f"{place or 'the file'}: expected a project: an object with its settings")
        own_name = one.get("name", name)
        if name is not None and own_name != name:
            raise _Wrong(f"name: it is {own_name!r} in the file and {name!r} in --name")
        if not isinstance(own_name, str) or not own_name:
            raise _Wrong(f"{place + '.' if place else ''}name: missing; write it, or give --name")
        settings = {key: setting for key, setting in one.items() if key != "name"}
        found.append(ProjectFile(own_name, settings))
    twice = _repeated(project.name for project in found)
    if twice is not None:
        raise _Wrong(f"project {twice!r} is in it twice")
    return found


def _repeated(names: Iterable[str]) -> str | None:
    """The first that was there before."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


# --- JSON -----------------------------------------------------------------------------------


def _json(data: bytes) -> object:
    _check_size(data, MAX_JSON_BYTES)
    try:
        return json.loads(
            data,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_number,
            parse_int=_whole,
        )
    except RecursionError:
        raise _Wrong("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _Wrong(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError:
        raise _Wrong("it is not UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Wrong(f"{_repeated(key for key, _ in pairs)!r} is there twice in one object")
    return found


def _no_constant(word: str) -> None:
    raise _Wrong(f"{word} is not JSON")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Wrong(f"{text[:_SHOWN_CHARACTERS]} is too large a number")
    return number


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _Wrong(f"{text[:_SHOWN_CHARACTERS]}... is too large a number")
    return int(text)


def _check_values(value: object) -> None:
    """YAML, and JSON in a few places, can write what cannot be sent."""
    left = [("", value)]
    while left:
        place, one = left.pop()
        if isinstance(one, dict):
            for key in one:
                if not isinstance(key, str):
                    raise _Wrong(f"{place}the key {key!a} must be a string: write it in quotes")
                _check_text(key, place)
            left += [(_inside(place, key), each) for key, each in one.items()]
        elif isinstance(one, list):
            left += [(_inside(place, number), each) for number, each in enumerate(one)]
        elif isinstance(one, str):
            _check_text(one, place)


def _check_text(text: str, place: str) -> None:
    if not encodable(text):
        shown = f"{text[:_SHOWN_CHARACTERS]!a}"
        raise _Wrong(f"{place}{shown} is no text: it has half a surrogate pair")


def _inside(place: str, step: str | int) -> str:
    """The place of a value, as the front of a sentence about it: ``jobs[0].name: ``."""
    around = place.removesuffix(": ")
    if isinstance(step, int):
        return f"{around}[{step}]: "
    return f"{around}.{step[:_SHOWN_CHARACTERS]}: " if around else f"{step[:_SHOWN_CHARACTERS]}: "


# --- YAML -----------------------------------------------------------------------------------


_OURS = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_NO_TEXTS = ("tag:yaml.org,2002:bool", *_OURS)
_TEXT = "tag:yaml.org,2002:str"  # the only tag that may be written
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z")
_DECIMAL = re.compile(
    r"[-+]?([0-9][0-9_]*)?\.[0-9]+([eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+[eE][-+]?[0-9]+\Z"
)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")


class _Loader(yaml.SafeLoader):
    """The safe loader, with numbers as people write them. YAML 1.1 takes 2026-01-01 for a date,
    1:30 for 90 and 010 for 8: these are texts here."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as the base class has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OURS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def number(self, node: Any) -> int | float:
        text = str(node.value).replace("_", "")
        try:
            if _NOT_FINITE.match(text):
                raise _Wrong(f"{text} is no number that can be used")
            return _whole(text) if _WHOLE.match(text) else _number(text)
        except ValueError as error:
            raise _Wrong(f"line {node.start_mark.line + 1}: {error}") from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    mark = key.start_mark
                    at = f"line {mark.line + 1}, column {mark.column + 1}"
                    raise _Wrong(f"{at}: {key.value!r} is there twice")
                seen.add(key.value)
            if isinstance(value, yaml.MappingNode) and key.value == "environment":
                self._check_texts(value)
        return super().construct_mapping(node, deep)

    def _check_texts(self, environment: Any) -> None:
        """Refuse values that YAML reads as another text, such as ``yes`` and ``1.10``."""
        for key, value in environment.value:
            if isinstance(value, yaml.ScalarNode) and value.tag in _NO_TEXTS:
                read = json.dumps(self.construct_object(value))
                if read != value.value:
                    place = f"line {value.start_mark.line + 1}: environment.{key.value}"
                    raise _Wrong(f'{place}: a string is needed: write "{value.value}", in quotes')


for _tag, _pattern in (("int", _WHOLE), ("float", _DECIMAL), ("float", _NOT_FINITE)):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list("-+.0123456789"))
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.number)


def _yaml(data: bytes) -> object:
    _check_size(data, MAX_YAML_BYTES)
    try:
        text = data.decode("utf-8")
        _check_nodes(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader, see above)
    except UnicodeDecodeError:
        raise _Wrong("it is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _Wrong(f"{place}{error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise _Wrong(str(error).splitlines()[0]) from None


def _check_nodes(text: str) -> None:
    """Walks the parser's events, which expand nothing, and counts what an expansion would give."""
    sizes: dict[str, int] = {}  # of what each anchor stands for
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # (anchor, nodes so far)
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.NodeEvent):
            _check_tag(event)
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            _add(open_nodes, sizes, anchor, size)
        elif isinstance(event, yaml.ScalarEvent):
            _add(open_nodes, sizes, event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            # An alias into what it stands in is a loop: no size yet, and no project has one.
            size = sizes.get(event.anchor or "", MAX_NODES)
            _add(open_nodes, sizes, None, size)
        if len(open_nodes) > MAX_DEPTH + 1:
            raise _Wrong(f"it is nested deeper than {MAX_DEPTH} levels")
        if open_nodes[-1][1] > MAX_NODES:
            raise _Wrong(f"it has more than {MAX_NODES} values, aliases counted in full")


def _check_tag(event: Any) -> None:
    """A tag makes the loader read a value as something that it may not be."""
    tag = getattr(event, "tag", None)
    if tag is not None and tag != _TEXT:
        shown = tag.replace("tag:yaml.org,2002:", "!!")[:_SHOWN_CHARACTERS]
        raise _Wrong(f"line {event.start_mark.line + 1}: the tag {shown!a} is not taken")


def _add(
    open_nodes: list[tuple[str | None, int]], sizes: dict[str, int], anchor: str | None, size: int
) -> None:
    if anchor is not None:
        sizes[anchor] = size
    around, so_far = open_nodes[-1]
    open_nodes[-1] = (around, so_far + size)


def _check_size(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise _Wrong(f"it has {len(data)} bytes; at most {limit} are read")

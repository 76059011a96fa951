"""Read and write YAML documents within limits, without YAML 1.1's surprising numbers and dates."""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from boxsched.cli.documents import SHOWN_CHARACTERS, Document, Place, Step, Wrong, check_size
from boxsched.cli.json_text import number, whole

MAX_NODES = 200_000  # in a document, with every alias expanded
MAX_DEPTH = 32
SHORT_CHARACTERS = 60  # longest list that is written on one line

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, if available
_OURS = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_NO_TEXTS = ("tag:yaml.org,2002:bool", *_OURS)
_TEXT = "tag:yaml.org,2002:str"  # the only tag that a document may contain
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z")
_DECIMAL = re.compile(
    r"[-+]?([0-9][0-9_]*)?\.[0-9]+([eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+[eE][-+]?[0-9]+\Z"
)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_NUMBERS = (("int", _WHOLE), ("float", _DECIMAL), ("float", _NOT_FINITE))
_FIRST = list("-+.0123456789")
_OTHER_BREAKS = re.compile("[\x85\u2028\u2029]")  # YAML reads each of them as a line break


class _Loader(_PARSER):  # type: ignore[misc, valid-type]
    """The safe loader, but only decimal numbers are numbers. YAML 1.1 reads 2026-01-01 as a date,
    1:30 as 90 and 010 as 8; here these are texts.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (as the base class has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OURS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def number(self, node: Any) -> int | float:
        text = str(node.value).replace("_", "")
        try:
            if _NOT_FINITE.match(text):
                raise Wrong(f"{text} is not a number that can be used")
            return whole(text) if _WHOLE.match(text) else number(text)
        except ValueError as error:
            raise Wrong(f"{_at(node.start_mark)}{error}") from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise Wrong(f"{_at(key.start_mark)}{key.value!r} occurs twice")
                seen.add(key.value)
            if isinstance(value, yaml.MappingNode) and key.value == "environment":
                self._check_texts(value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def _check_texts(self, environment: Any) -> None:
        """Refuse values that YAML would change, such as ``yes`` and ``1.10``."""
        for key, value in environment.value:
            if isinstance(value, yaml.ScalarNode) and value.tag in _NO_TEXTS:
                read = json.dumps(self.construct_object(value))
                if read != value.value:
                    place = f"{_at(value.start_mark)}environment.{key.value}"
                    raise Wrong(f'{place}: must be a string: write "{value.value}" in quotes')


class _Dumper(yaml.SafeDumper):
    """Writes YAML that ``_Loader`` reads unchanged. A text is quoted if ``_Loader`` or YAML 1.1
    would read it as another type.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, text: str) -> Any:
        style = '"' if _OTHER_BREAKS.search(text) else "|" if "\n" in text else None
        return self.represent_scalar(_TEXT, text, style=style)

    def entries(self, entries: Sequence[Any]) -> Any:
        return self.represent_sequence(
            "tag:yaml.org,2002:seq", entries, flow_style=_is_short(entries)
        )


for _tag, _pattern in _NUMBERS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _FIRST)
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.number)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _FIRST)
_Dumper.add_representer(str, _Dumper.text)
_Dumper.add_representer(list, _Dumper.entries)


def dump(value: object) -> str:
    """Return the value as one YAML document."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=float("inf"),
    )
    return text


def _is_short(entries: Sequence[Any]) -> bool:
    """Whether a list fits on one line, such as ``[make test]``."""
    if entries and isinstance(entries[0], dict | list):
        return False
    if any(isinstance(entry, list) or "\n" in str(entry) for entry in entries):
        return False
    return len(json.dumps(entries)) <= SHORT_CHARACTERS


def documents(data: bytes) -> list[Document]:
    """Return all documents of a file, at least one. Raises Wrong."""
    check_size(data)
    try:
        text = data.decode("utf-8-sig")
        _check_nodes(text)
        return list(_documents(text)) or [Document(None, lambda steps: (1, 1))]
    except UnicodeDecodeError:
        raise Wrong("it is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Wrong(f"{_at(mark) if mark else ''}{error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise Wrong(str(error).splitlines()[0]) from None


def _documents(text: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            root = loader.get_node()
            value = loader.construct_document(root)
            yield Document(value, functools.partial(_find, root))
    finally:
        loader.dispose()


def _find(node: Any, steps: Sequence[Step]) -> Place:
    mark = node.start_mark
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            found = [(each, each) for each in node.value[step : step + 1]]
        else:
            found = []
        if not found:
            break
        named, node = found[-1]
        mark = named.start_mark
    return mark.line + 1, mark.column + 1


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: "


def _check_nodes(text: str) -> None:
    """Count the values after expansion of all aliases, from the parser's events, which are not
    expanded.
    """
    sizes: dict[str, int] = {}  # the expanded size of each anchor
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # (anchor, nodes so far)
    for event in yaml.parse(text, Loader=_PARSER):
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
            # An alias inside its own anchor is a loop: it has no size yet. Projects do not need
            # loops.
            size = sizes.get(event.anchor or "", MAX_NODES)
            _add(open_nodes, sizes, None, size)
        if len(open_nodes) > MAX_DEPTH + 1:
            raise Wrong(f"it is nested deeper than {MAX_DEPTH} levels")
        if open_nodes[-1][1] > MAX_NODES:
            raise Wrong(f"it has more than {MAX_NODES} values, with all aliases expanded")


def _check_tag(event: Any) -> None:
    """Refuse tags, which change how the loader reads a value."""
    tag = getattr(event, "tag", None)
    if tag is not None and tag != _TEXT:
        shown = tag.replace("tag:yaml.org,2002:", "!!")[:SHOWN_CHARACTERS]
        raise Wrong(f"{_at(event.start_mark)}the tag {shown!a} is not allowed")


def _add(
    open_nodes: list[tuple[str | None, int]], sizes: dict[str, int], anchor: str | None, size: int
) -> None:
    if anchor is not None:
        sizes[anchor] = size
    around, so_far = open_nodes[-1]
    open_nodes[-1] = (around, so_far + size)

"""Convert msgspec's error about a body into an ``Invalid`` that names the field.

msgspec does not name keys of objects (``$.jobs[0].environment[...]``), and does not say what would
be valid. To find both, the body is decoded again, and the types are followed along the path.
"""

import bisect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from boxsched.api.http.forms import FORMS
from boxsched.errors import Invalid
from boxsched.nearest import unknown

MAX_EXAMINED_BYTES = 131_072  # in a larger body, keys of objects are not named
_MAX_FIELD_CHARACTERS = 200

_AT = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`\Z")
_STEP = re.compile(r"\[(?P<index>[0-9]+)\]|(?P<some>\[\.\.\.\])|\.?(?P<name>[^.\[\]]+)")
_MEMBER = re.compile(
    r"Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`\Z", re.DOTALL
)
_CHOICE = re.compile(r"Invalid enum value ")
_TEXT_WANTED = re.compile(r"Expected `str(?: \| null)?`, got `(int|float|bool)`\Z")
_OF_A_FORM = {f"Expected `str` matching regex {form!r}": says for form, says in FORMS.items()}
_EXPECTED = re.compile(
    r"Expected `(?P<kinds>[a-z |]+)`(?P<sized> of length)?"
    r"(?: (?P<bound>>=|<=|>|<))?(?: (?P<number>[-+.e0-9]+))?(?:, got `(?P<got>[a-z]+)`)?\Z"
)
_LENGTH = re.compile(
    r"Expected `array` of (?P<bound>at least|at most) length (?P<number>[0-9]+)(?:, got [0-9]+)?\Z"
)
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_PARTS = {"str": "characters", "array": "entries", "object": "entries"}
_BOUNDS = {">=": "at least ", "<=": "at most ", ">": "more than ", "<": "less than ", None: ""}
_MAX_KEY_CHARACTERS = 80
_UNNAMED = None  # stands for a key that msgspec does not name

Step = str | int | None


def refusal(text: str, kind: type, body: bytes) -> Invalid:
    """Return the error for the caller; ``text`` is msgspec's message about ``body``."""
    place = _AT.search(text)
    message = text[: place.start()] if place else text
    steps = list(_steps(place["path"])) if place else []
    path, value, key = _resolve_path(text, kind, body, steps, bool(place and place["key"]))
    member = _MEMBER.match(message)
    if member:
        path.append(member["name"])
    field = _written(path)[:_MAX_FIELD_CHARACTERS]
    return Invalid(
        _message(message, value, _type_at(inspect.type_info(kind), steps), key), field or None
    )


def _message(message: str, value: Any, place: inspect.Type | None, key: str | None) -> str:
    if message in _OF_A_FORM:
        return f"{key!a}: {_OF_A_FORM[message]}" if key is not None else _OF_A_FORM[message]
    member = _MEMBER.match(message)
    if member:
        if member["what"].startswith("missing"):
            return "is missing"
        return unknown("unknown field", member["name"], _fields(place))
    if _CHOICE.match(message):
        return f"must be one of: {', '.join(_choices(place))}"
    if _TEXT_WANTED.match(message) and isinstance(value, int | float):
        text = msgspec.json.encode(value).decode()[:80]
        return f'must be a string: write "{text}" in quotes'
    length = _LENGTH.match(message)
    if length:
        return f"must have {length['bound']} {length['number']} entries"
    expected = _EXPECTED.match(message)
    if expected is None:
        return message.replace("`", "")[:500]
    about = "" if key is None else f"{key[:_MAX_KEY_CHARACTERS]!a}: "
    return about + _expectation(expected)


def _expectation(expected: re.Match[str]) -> str:
    """Reword msgspec's "Expected `float | null`, got `str`" without Python types."""
    kinds = expected["kinds"].split(" | ")
    if expected["number"] is None:
        wanted = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
        got = expected["got"]
        return f"must be {wanted}" + (f", not {_KINDS.get(got, got)}" if got else "")
    amount = _BOUNDS[expected["bound"]] + expected["number"].removesuffix(".0")
    if expected["sized"] is None:
        return f"must be {amount}"
    parts = next((_PARTS[kind] for kind in kinds if kind in _PARTS), "entries")
    return f"must have {amount} {parts}"


# --- The path -------------------------------------------------------------------------------


def _steps(path: str) -> Iterator[Step]:
    for step in _STEP.finditer(path):
        yield int(step["index"]) if step["index"] else _UNNAMED if step["some"] else step["name"]


def _written(path: Sequence[Step]) -> str:
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step is not _UNNAMED:
            text += f".{step}" if text else step
    return text


def _resolve_path(
    text: str, kind: type, body: bytes, steps: Sequence[Step], at_key: bool
) -> tuple[list[Step], Any, str | None]:
    """Return the path with its keys, the value there, and the wrong key, if a key is wrong."""
    if len(body) > MAX_EXAMINED_BYTES:
        return list(steps), None, None
    try:
        root = found = msgspec.json.decode(body)
    except msgspec.ValidationError:  # it contains a number that is too large for a double
        return list(steps), None, None
    path: list[Step] = []
    for at, step in enumerate(steps):
        if step is _UNNAMED:
            step = _find_invalid_key(text, kind, root, found)
            if step is None:
                return [*path, *steps[at:]], None, None
        found = found[step]
        path.append(step)
    return path, found, _find_invalid_key(text, kind, root, found) if at_key else None


def _find_invalid_key(text: str, kind: type, root: Any, among: dict[str, Any]) -> str | None:
    """Find the first key of an object that msgspec refuses with this text, by bisection.

    Afterwards only that key is left in the object.
    """
    items = list(among.items())

    def refused(count: int) -> bool:
        among.clear()
        among.update(items[:count])
        try:
            msgspec.convert(root, kind)
        except msgspec.ValidationError as error:
            return str(error) == text
        return False

    count = bisect.bisect_left(range(len(items) + 1), True, key=refused)
    if count > len(items) or count == 0:
        return None
    key, value = items[count - 1]
    among.clear()
    among[key] = value
    return key


# --- What would be valid --------------------------------------------------------------------


def _type_at(node: inspect.Type | None, steps: Sequence[Step]) -> inspect.Type | None:
    for step in steps:
        for one in _members(node):
            node = _child(one, step)
            if node is not None:
                break
    return node


def _members(node: inspect.Type | None) -> Sequence[inspect.Type]:
    if isinstance(node, inspect.UnionType):
        return node.types
    return () if node is None else (node,)


def _child(node: inspect.Type, step: Step) -> inspect.Type | None:
    if isinstance(node, inspect.StructType):
        if isinstance(step, int):  # a struct whose JSON is a list
            return node.fields[step].type if step < len(node.fields) else None
        return next((one.type for one in node.fields if one.encode_name == step), None)
    if isinstance(node, inspect.DictType):
        return node.value_type
    if isinstance(node, inspect.TupleType) and isinstance(step, int):
        return node.item_types[step]
    if isinstance(node, inspect.VarTupleType | inspect.ListType):
        return node.item_type
    return None


def _fields(node: inspect.Type | None) -> list[str]:
    structs = [one for one in _members(node) if isinstance(one, inspect.StructType)]
    return [field.encode_name for one in structs for field in one.fields]


def _choices(node: inspect.Type | None) -> list[str]:
    found: list[str] = []
    for one in _members(node):
        if isinstance(one, inspect.EnumType):
            found += [str(choice.value) for choice in one.cls]
        elif isinstance(one, inspect.LiteralType):
            found += [str(value) for value in one.values]
    return found

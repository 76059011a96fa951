"""The text of a project's settings in the database.

Fields with their default values are left out: a node of an earlier version refuses fields that it
does not know, and so it can read every project that does not use them.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import FieldInfo, fields

from boxsched.api.messages.requests import Rule


def without_defaults(value: Any, built: Any) -> Any:
    """Return the JSON values of ``value``, which are ``built``, without defaults."""
    if isinstance(value, Rule):
        return built
    if isinstance(value, msgspec.Struct):
        kept = [field for field in fields(value) if field.name in built]
        return {
            field.name: without_defaults(getattr(value, field.name), built[field.name])
            for field in kept
            if getattr(value, field.name) != _default(field)
        }
    if isinstance(value, Mapping):
        return {key: without_defaults(value[key], built[key]) for key in built}
    if isinstance(value, tuple):
        return [without_defaults(*pair) for pair in zip(value, built, strict=True)]
    return built


def _default(field: FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default

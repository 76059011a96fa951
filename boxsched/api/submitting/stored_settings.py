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


def newer_field(stored: Any) -> str | None:
    """Return the first field, by its place, that programs before the sixth schema do not know."""
    for name in ("jobs_from", "clone", "statuses", "hooks"):
        if name in stored:
            return name
    for index, rule in enumerate(stored.get("cancellation", ())):
        if len(rule) > 2:
            return f"cancellation[{index}]"
    for name, server in stored.get("servers", {}).items():
        place = f"servers.{name}"
        for key in ("queue", "guard"):
            if key in server:
                return f"{place}.{key}"
        found = _newer_job(server.get("jobs", ()), f"{place}.jobs")
        if found is not None:
            return found
    return _newer_job(stored.get("jobs", ()), "jobs")


def field_of_eighth_schema(stored: Any) -> str | None:
    """Return the first field, by its place, that programs before the eighth schema do not know."""
    for name in ("cache", "ssh_forwarding", "ssh_timeout_seconds"):
        if name in stored:
            return name
    places = {f"servers.{name}.jobs": each for name, each in stored.get("servers", {}).items()}
    for place, owner in {**places, "jobs": stored}.items():
        for field in ("retry", "artifacts", "image"):
            found = _newer_job(owner.get("jobs", ()), place, field)
            if found is not None:
                return found
    return None


def _newer_job(jobs: Any, place: str, field: str = "parallelism") -> str | None:
    found = (index for index, job in enumerate(jobs) if field in job)
    return next((f"{place}[{index}].{field}" for index in found), None)


def _default(field: FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default

"""Settings for people: YAML without default values, and differences between versions."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from boxsched.cli import yaml_text
from boxsched.cli.clean import plain
from boxsched.client.records import Settings

CONTEXT_LINES = 3
WRITTEN_ONLY = ("webhook_secret", "git_credentials")
# Default values, which need not be written; null also means the default.
# tests/cli/test_project_code.py compares them with the service.
DEFAULTS: Mapping[str, Any] = {
    "jobs": [],
    "servers": {},
    "priority_branches": [],
    "cancellation": [],
    "fail_fast": False,
    "pull_requests": "own",
    "schedules": [],
    "hooks": [],
    "cache": [],
}
OF_A_SERVER: Mapping[str, Any] = {
    "jobs": [],
    "strategy": "manual",
    "queue": "all",
    "guard": False,
}
OF_A_JOB: Mapping[str, Any] = {
    "environment": {},
    "show_commands": True,
    "artifacts": [],
}
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def lean(settings: Settings) -> Settings:
    """Return the settings without default values."""
    found = _without(settings, DEFAULTS)
    for name in ("clone", "statuses"):
        if name in found:
            found[name] = _without(found[name], {})
    for name, defaults in (("jobs", OF_A_JOB), ("schedules", {}), ("hooks", {})):
        if name in found:
            found[name] = [_without(one, defaults) for one in found[name]]
    if "servers" in found:
        found["servers"] = {name: _server(its) for name, its in found["servers"].items()}
    return found


def _server(settings: Settings) -> Settings:
    found = _without(settings, OF_A_SERVER)
    if "jobs" in found:
        found["jobs"] = [_without(job, OF_A_JOB) for job in found["jobs"]]
    return found


def _without(settings: Settings, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if value is not None and (name not in defaults or not _same(value, defaults[name]))
    }


def _same(value: object, default: object) -> bool:
    """Compare values with their types: ``0`` and False differ."""
    return type(value) is type(default) and value == default


def text(name: str, settings: Settings) -> str:
    """Return a YAML document for ``boxsched project apply``."""
    rest = {key: value for key, value in lean(settings).items() if key != "name"}
    return yaml_text.dump({"name": name, **rest})


def differences(before: Settings | None, after: Settings) -> list[str]:
    """Return a unified diff: lines that begin with +, - or a space, in parts that begin with
    ``@@``.
    """
    old, new = (
        [] if one is None else yaml_text.dump(lean(one)).splitlines() for one in (before, after)
    )
    return list(difflib.unified_diff(old, new, n=CONTEXT_LINES, lineterm=""))[2:]


def secret_lines(changed: Sequence[str], asked: Settings) -> Iterator[str]:
    """Return lines about values that are never shown. ``changed``: the names of changed fields."""
    given: dict[str, object] = {name: asked.get(name) for name in WRITTEN_ONLY}
    given["statuses.token"] = (asked.get("statuses") or {}).get("token")
    for index, hook in enumerate(asked.get("hooks") or ()):
        given[f"hooks[{index}].secret"] = hook.get("secret")
    for name, value in given.items():
        if name in changed:
            yield f"- {name}: removed" if value is None else f"+ {name}: set"


def show(lines: Sequence[str]) -> None:
    """Print differences, in colour on a terminal."""
    for line in lines:
        colour = _COLOURS.get(line[:1])
        click.echo(click.style(f"  {plain(line)}", fg=colour))

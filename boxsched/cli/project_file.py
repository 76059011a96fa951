"""Project files, JSON or YAML: one project, a list, a mapping of names, or several documents."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from boxsched.cli import json_text, yaml_text
from boxsched.cli.documents import (
    MAX_BYTES,
    Document,
    Step,
    Wrong,
    check_values,
    repeated,
    steps_of,
    written,
)
from boxsched.cli.failing import BadInput
from boxsched.client.records import Settings

STANDARD_INPUT = Path("-")
TOGETHER = "projects"  # the key of a mapping or list of projects, as `project export --json` has it
MAX_PROJECTS = 1_000  # of all files together


@attrs.frozen
class Origin:
    """Where a project stands."""

    file: str
    document: Document
    steps: tuple[Step, ...] = ()

    def at(self) -> str:
        return self.document.at(self.steps)

    def of(self, field: str | None) -> str:
        """The place of a field of it, as the front of a sentence."""
        part: object = self.document.value
        for step in self.steps:
            part = part[step]  # type: ignore[index]
        inside = steps_of(part, field) if field else []
        return f"{self.file}: {self.document.at([*self.steps, *inside])}"


@attrs.frozen
class ProjectFile:
    """One project of a file. ``settings``: the request's body. ``name``: a part of its path."""

    name: str
    settings: Settings
    origin: Origin = attrs.field(eq=False, repr=False)


def read_all(paths: Sequence[Path], name: str | None = None) -> list[ProjectFile]:
    """The projects of all files; ``name`` names the only one, where it has none. Raises Failure
    (bad input)."""
    if name is not None and len(paths) > 1:
        raise BadInput("--name is for one file")
    found: dict[str, ProjectFile] = {}
    for path in paths:
        for one in read(path, name):
            before = found.get(one.name)
            if before is not None:
                raise BadInput(
                    f"{one.origin.of(None)}project {one.name!r} is in two files: "
                    f"{before.origin.file} has it, too"
                )
            found[one.name] = one
    if len(found) > MAX_PROJECTS:
        raise BadInput(f"there are {len(found)} projects; at most {MAX_PROJECTS} are applied")
    return list(found.values())


def read(path: Path, name: str | None = None) -> list[ProjectFile]:
    """The projects of a file, or with ``-`` of standard input. Raises Failure (bad input)."""
    file = "standard input" if path == STANDARD_INPUT else str(path)
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
            is_json = data.lstrip()[:1] in (b"{", b"[")
        else:
            data = path.read_bytes()
            is_json = path.suffix == ".json"
        documents = [json_text.document(data)] if is_json else yaml_text.documents(data)
        for document in documents:
            check_values(document)
        return _projects(file, documents, name)
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}") from None
    except Wrong as error:
        raise BadInput(f"{file}: {error}") from None


def without_jobs(settings: Settings) -> list[str]:
    """Return the fields whose list of jobs is empty: allowed, but often a mistake."""
    found = [("jobs", settings)]
    servers = settings.get("servers")
    if isinstance(servers, Mapping):
        found += [(f"servers.{name}.jobs", its) for name, its in servers.items()]
    return [field for field, its in found if isinstance(its, Mapping) and its.get("jobs") == []]


def _projects(file: str, documents: Sequence[Document], name: str | None) -> list[ProjectFile]:
    parts = [
        (document, *part)
        for document in documents
        if document.value is not None or len(documents) == 1
        for part in _parts(document)
    ]
    if not parts:
        raise Wrong("there is no project in it")
    if name is not None and len(parts) > 1:
        raise Wrong(f"--name is for a file of one project; this one has {len(parts)}")
    found = [
        _project(Origin(file, document, steps), settings, key or name)
        for document, steps, settings, key in parts
    ]
    twice = repeated(project.name for project in found)
    if twice is not None:
        again = [project for project in found if project.name == twice][1]
        raise Wrong(f"{again.origin.at()}project {twice!r} is in it twice")
    return found


def _parts(document: Document) -> Iterator[tuple[tuple[Step, ...], object, str | None]]:
    """The projects of a document: the steps to each, what is there, and the key that names it."""
    value = document.value
    around: tuple[Step, ...] = ()
    if isinstance(value, dict) and value.keys() == {TOGETHER}:
        value, around = value[TOGETHER], (TOGETHER,)
        if isinstance(value, dict):
            for key, settings in value.items():
                yield (*around, key), settings, key
            return
        if not isinstance(value, list):
            raise Wrong(f"{document.at(around)}projects: expected a list, or a mapping of names")
    if isinstance(value, list):
        for number, settings in enumerate(value):
            yield (*around, number), settings, None
        return
    yield (), value, None


def _project(origin: Origin, value: object, name: str | None) -> ProjectFile:
    """``name``: by a key around it, or by ``--name``."""
    steps = origin.steps
    if not isinstance(value, dict):
        raise Wrong(
            f"{origin.document.at(steps)}{written(steps)}expected a project: an object with its "
            "settings"
        )
    own_name = value.get("name", name)
    said = None
    if name is not None and own_name != name:
        other = "around it" if steps[:1] == (TOGETHER,) else "in --name"
        said = f"it is {own_name!r} in the file and {name!r} {other}"
    elif not isinstance(own_name, str) or not own_name:
        said = "missing; write it, or give --name"
    if said is not None:
        at = (*steps, "name")
        raise Wrong(f"{origin.document.at(at)}{written(at)}{said}")
    assert isinstance(own_name, str)
    settings = {key: setting for key, setting in value.items() if key != "name"}
    return ProjectFile(own_name, settings, origin)

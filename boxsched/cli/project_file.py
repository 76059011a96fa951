"""Read project files, JSON or YAML: one project, a list, a mapping of names, or several
documents."""

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
from boxsched.cli.failing import InvalidInput
from boxsched.client.records import Settings

STANDARD_INPUT = Path("-")
# the key of a mapping or list of projects, as `project export --json` prints it
PROJECTS_KEY = "projects"
MAX_PROJECTS = 1_000  # in all files together


@attrs.frozen
class Origin:
    """The place of a project: its file, document and steps."""

    file: str
    document: Document
    steps: tuple[Step, ...] = ()

    def at(self) -> str:
        return self.document.at(self.steps)

    def of(self, field: str | None) -> str:
        """Return the place of one of its fields, to begin a message with."""
        part: object = self.document.value
        for step in self.steps:
            part = part[step]  # type: ignore[index]
        inside = steps_of(part, field) if field else []
        return f"{self.file}: {self.document.at([*self.steps, *inside])}"


@attrs.frozen
class ProjectFile:
    """One project of a file. ``settings``: the request's body. ``name``: part of the request's
    path.
    """

    name: str
    settings: Settings
    origin: Origin = attrs.field(eq=False, repr=False)


def read_all(paths: Sequence[Path], name: str | None = None) -> list[ProjectFile]:
    """Return the projects of all files. ``name``: for a single project without a name. Raises
    InvalidInput.
    """
    if name is not None and len(paths) > 1:
        raise InvalidInput("--name: give only one file with it")
    found: dict[str, ProjectFile] = {}
    for path in paths:
        for one in read(path, name):
            before = found.get(one.name)
            if before is not None:
                raise InvalidInput(
                    f"{one.origin.of(None)}project {one.name!r} is in two files: "
                    f"the other one is {before.origin.file}"
                )
            found[one.name] = one
    if len(found) > MAX_PROJECTS:
        raise InvalidInput(
            f"the files contain {len(found)} projects; at most {MAX_PROJECTS} are allowed"
        )
    return list(found.values())


def read(path: Path, name: str | None = None) -> list[ProjectFile]:
    """Return the projects of a file, or of standard input with ``-``. Raises InvalidInput."""
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
        raise InvalidInput(f"{file}: {error.strerror}") from None
    except Wrong as error:
        raise InvalidInput(f"{file}: {error}") from None


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
        raise Wrong("it contains no project")
    if name is not None and len(parts) > 1:
        raise Wrong(f"--name: the file must contain one project, not {len(parts)}")
    found = [
        _project(Origin(file, document, steps), settings, key or name)
        for document, steps, settings, key in parts
    ]
    twice = repeated(project.name for project in found)
    if twice is not None:
        again = [project for project in found if project.name == twice][1]
        raise Wrong(f"{again.origin.at()}the project {twice!r} occurs twice")
    return found


def _parts(document: Document) -> Iterator[tuple[tuple[Step, ...], object, str | None]]:
    """Yield each project of a document: the steps to it, its value, and its name if it is a key."""
    value = document.value
    around: tuple[Step, ...] = ()
    if isinstance(value, dict) and value.keys() == {PROJECTS_KEY}:
        value, around = value[PROJECTS_KEY], (PROJECTS_KEY,)
        if isinstance(value, dict):
            for key, settings in value.items():
                yield (*around, key), settings, key
            return
        if not isinstance(value, list):
            raise Wrong(
                f"{document.at(around)}projects: must be a list of projects, or a mapping with "
                "their names as keys"
            )
    if isinstance(value, list):
        for number, settings in enumerate(value):
            yield (*around, number), settings, None
        return
    yield (), value, None


def _project(origin: Origin, value: object, name: str | None) -> ProjectFile:
    """Return a project. ``name``: from the key of a mapping, or from ``--name``."""
    steps = origin.steps
    if not isinstance(value, dict):
        raise Wrong(
            f"{origin.document.at(steps)}{written(steps)}must be a project: an object with its "
            "settings"
        )
    own_name = value.get("name", name)
    said = None
    if name is not None and own_name != name:
        other = "as its key" if steps[:1] == (PROJECTS_KEY,) else "in --name"
        said = f"it is {own_name!r} in the file and {name!r} {other}"
    elif not isinstance(own_name, str) or not own_name:
        said = "is missing: add it, or use --name"
    if said is not None:
        at = (*steps, "name")
        raise Wrong(f"{origin.document.at(at)}{written(at)}{said}")
    assert isinstance(own_name, str)
    settings = {key: setting for key, setting in value.items() if key != "name"}
    return ProjectFile(own_name, settings, origin)

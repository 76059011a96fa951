"""The rooms of the package and their allowed imports (ARCHITECTURE.md, "Layers")."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PACKAGE = PROJECT / "boxsched"
FILES = sorted(PACKAGE.rglob("*.py"))

# Any room may import these; they import none of the rooms.
COMMON = {
    "boxsched", "backoff", "clock", "commits", "cron", "errors", "file_paths", "folders",
    "git_access", "globs", "listening", "json_text", "loglines", "model", "nearest", "origins",
    "reaching", "refs", "repository", "said_times", "states", "texts", "collecting", "discarding",
    "tunnelling",
}  # fmt: skip
ALLOWED: dict[str, set[str]] = {
    "scheduling": set(),
    "protocol": set(),
    "simulation": {"scheduling"},
    "webhooks": set(),
    "worker.supervisor": set(),
    "worker.session": {"worker.supervisor"},
    "worker.agent": {"protocol", "worker.supervisor"},
    "worker.remote": {"protocol", "worker.agent", "worker.supervisor"},
    "store": {"protocol"},
    "secrets": {"protocol", "store"},
    "blobs": {"protocol", "store"},
    "outgoing": {"secrets", "store"},
    "gather": {"store"},
    "feed": {"protocol", "store"},
    "engine": {"protocol", "scheduling", "store"},
    "cluster": {"engine", "protocol", "store"},
    "gateway": {"gather", "protocol", "secrets", "store", "worker.agent"},
    "node": {
        "blobs", "cluster", "engine", "feed", "gateway", "gather", "outgoing", "protocol",
        "scheduling",
        "secrets", "store", "worker.agent", "worker.supervisor",
    },
    "api.auth": {"protocol", "store"},
    "api.http": {"api.auth", "protocol", "store"},
    "api.messages": {"api.auth", "api.http", "engine", "node", "protocol", "store"},
    "api.submitting": {
        "api.http", "api.messages", "gather", "node", "outgoing", "protocol", "secrets", "store",
        "webhooks",
    },
    "api.resources": {
        "api.auth", "api.http", "api.messages", "api.submitting", "blobs", "cluster", "engine",
        "feed",
        "job_files", "node", "outgoing", "protocol", "secrets", "store", "webhooks",
    },
    "job_files": {"api.http", "api.messages", "store"},
    "automation": {
        "api.http", "api.messages", "api.submitting", "job_files", "node", "protocol", "secrets",
        "store", "webhooks",
    },
    "api": {
        "automation", "api.auth", "api.http", "api.messages", "api.resources", "api.submitting",
        "node", "protocol", "store",
    },
    "service": {"api", "api.http", "api.messages", "node", "store", "worker.agent"},
    "client": set(),
    "bench": {"client", "scheduling", "store"},
    "demo": {"client"},
    "cli": {
        "api.auth", "bench", "client", "cluster", "demo", "job_files", "node", "outgoing",
        "protocol", "secrets", "service", "simulation", "store", "worker.agent", "worker.remote",
        "worker.supervisor",
    },
    "__main__": {"cli"},
}  # fmt: skip
# The rooms of the store, which may all import the modules of ``boxsched/store`` itself.
STORE_ROOMS: dict[str, set[str]] = {
    "steps": set(),
    "sqlite": {"steps"},
    "postgres": {"steps"},
    "operating": {"postgres", "sqlite", "steps"},
}
STORE_OPENERS = {"__init__.py", "store.py", "driver.py", "blob_rows.py"}  # these join the rooms
MODEL = {"errors", "globs", "model", "states"}  # the part of COMMON that ``protocol`` may import


def room(module: str) -> str:
    """Return the room of a module's name without ``boxsched.``: the longest match above."""
    parts = module.split(".")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in ALLOWED else parts[0]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_the_rooms_below_it(path: Path) -> None:
    mine = room(str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."))
    for name in imported(path):
        if not name.startswith("boxsched."):
            continue
        theirs = room(name.removeprefix("boxsched."))
        if mine == "protocol":
            assert theirs in MODEL | {mine}, f"{path}: {name}"
        elif mine not in COMMON and theirs in ALLOWED:
            assert theirs in ALLOWED[mine] | {mine}, f"{path}: {name}"
        elif mine in COMMON:
            assert theirs in COMMON, f"{path}: {name}"


@pytest.mark.parametrize(
    "path",
    sorted((PACKAGE / "store").rglob("*.py")),
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_package_of_the_store_imports_a_sibling(path: Path) -> None:
    mine = path.relative_to(PACKAGE / "store").parts[0]
    if mine in STORE_OPENERS:
        return
    for name in imported(path):
        theirs = name.removeprefix("boxsched.store.").split(".")[0]
        if name.startswith("boxsched.store.") and theirs in STORE_ROOMS:
            assert theirs in STORE_ROOMS.get(mine, set()) | {mine}, f"{path}: {name}"


def test_imports_have_no_cycles() -> None:
    done: list[str] = []
    while waiting := [each for each in ALLOWED if each not in done]:
        ready = [each for each in waiting if ALLOWED[each] <= {*done, each}]
        assert ready, waiting
        done += ready


def modules_after(statement: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has loaded after the statement."""
    script = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {statement}; print(*sys.modules)"
    command = [sys.executable, "-S", "-c", script]
    return set(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())


def test_the_supervisor_and_its_spawner_load_the_standard_library_only() -> None:
    loaded = modules_after("import boxsched.worker.supervisor.spawner")
    ours = {name for name in loaded if name.split(".")[0] == "boxsched"}
    assert all(
        f"{name}.".startswith("boxsched.worker.supervisor.")
        or name.removeprefix("boxsched.")
        in ("boxsched", "commits", "file_paths", "git_access", "worker")
        for name in ours
    ), ours
    others = {name.split(".")[0] for name in loaded} - {"boxsched", "__main__"}
    assert others <= sys.stdlib_module_names, others - sys.stdlib_module_names


def test_an_external_worker_loads_nothing_of_the_store() -> None:
    site = f"sys.path[:0] = {sys.path!r}"
    loaded = modules_after(f"{site}; import boxsched.worker.remote.worker")
    assert "boxsched.worker.remote.worker" in loaded
    assert not {name for name in loaded if name.startswith("boxsched.store")}
    assert "sqlite3" not in loaded


# The same word for one thing in two rooms that do not import each other, or where renaming would
# change the API's description.
SAME_WORD = {
    "Ended",
    "Found",
    "Opened",
    "GitCredentials",
    "NotFound",
    "Notice",
    "Schedule",
    "Service",
}
# The client has the same things as the service; the core's events have the names of the commands.
MIRRORS = ("client/", "scheduling/")


def test_a_class_name_stands_once() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        place = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(place)
    repeated = {
        name: found
        for name, found in places.items()
        if len([place for place in found if not place.startswith(MIRRORS)]) > 1
    }
    assert repeated.keys() <= SAME_WORD, repeated

"""The program that serves SSH sessions, and the files that it needs."""

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import boxsched
from boxsched.worker.supervisor.session import BOOT

_ROOT = str(Path(boxsched.__file__).resolve().parent.parent)
_LIBRARIES = ("asyncssh", "cryptography", "cffi", "_cffi_backend", "pycparser", "typing_extensions")


def arguments() -> list[str]:
    """Return the command line; the last argument, a descriptor, is added at the start."""
    flags = ["-I", "-S", "-X", "utf8"]
    return [_interpreter(), *flags, "-c", BOOT, json.dumps([_ROOT, *_libraries()])]


def needed(seen: Sequence[str]) -> list[str]:
    """Return what the program needs to read outside of the folders in ``seen``."""
    ours = str(Path(boxsched.__file__).resolve().parent)
    wanted = [sys.base_prefix, os.path.dirname(_interpreter()), *_libraries(), ours]
    found: list[str] = []
    for path in sorted({os.path.realpath(path) for path in wanted}):
        if not any(_is_below(path, folder) for folder in (*seen, *found)):
            found.append(path)
    return found


def _interpreter() -> str:
    """Return the interpreter itself; that of a virtual environment needs more files."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _libraries() -> list[str]:
    """Return the folders with the libraries, each once, in the order of sys.path."""
    folders: dict[str, None] = {}
    for name in _LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            place = os.path.dirname(spec.origin)
            folders[os.path.dirname(place) if spec.submodule_search_locations else place] = None
    return sorted(
        folders, key=lambda one: sys.path.index(one) if one in sys.path else len(sys.path)
    )


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")

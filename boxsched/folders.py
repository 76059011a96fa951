"""The data folder on this machine, and the files that a service writes into it for others.

A service writes ``admin-token`` (mode 0600) and, while it listens, ``service.json``; the CLI and
the Python client use them to find the local service.
"""

import contextlib
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import msgspec

ADMIN_TOKEN = "admin-token"  # noqa: S105 (the file's name, not a token)
SERVICE = "service.json"
STARTING = "starting.json"
DATABASE = "boxsched.sqlite"


class Listening(msgspec.Struct, frozen=True):
    """Contents of ``service.json``: the service's URL and its process."""

    url: str
    pid: int


class Starting(msgspec.Struct, frozen=True):
    """Contents of ``starting.json`` while a service cannot start yet."""

    pid: int
    waits_for: str


def is_of_a_service(folder: Path) -> bool:
    """Whether a service uses this data folder, or used it."""
    return any((folder / name).exists() for name in (ADMIN_TOKEN, SERVICE, STARTING, DATABASE))


def default_data(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return the user's data folder, by the conventions of the platform."""
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "boxsched"
    shared = environment.get("XDG_DATA_HOME", "")
    # The XDG rules: ignore a relative path in the variable.
    base = Path(shared) if shared.startswith("/") else Path.home() / ".local" / "share"
    return base / "boxsched"


@attrs.frozen
class DataFolder:
    path: Path

    @property
    def token_file(self) -> Path:
        return self.path / ADMIN_TOKEN

    @property
    def service_file(self) -> Path:
        return self.path / SERVICE

    @property
    def starting_file(self) -> Path:
        return self.path / STARTING

    @property
    def database_file(self) -> Path:
        return self.path / DATABASE

    def token(self) -> str | None:
        """Return the admin token; None if it does not exist or cannot be read."""
        try:
            return self.token_file.read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def listening(self) -> Listening | None:
        """Return what the last service on this folder wrote; it may no longer run."""
        try:
            return msgspec.json.decode(self.service_file.read_bytes(), type=Listening)
        except (OSError, msgspec.DecodeError):
            return None

    def starting(self) -> Starting | None:
        """Return the running service on this folder that waits to start, if any."""
        try:
            found = msgspec.json.decode(self.starting_file.read_bytes(), type=Starting)
        except (OSError, msgspec.DecodeError):
            return None
        return found if is_alive(found.pid) else None


def create_private(path: Path, text: str) -> None:
    """Create a file of mode 0600 with this text, durably; a file that exists stays unchanged.

    It is written under another name and then linked, so that no process reads an incomplete file,
    and processes that create it at the same time use the same one.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w", encoding="ascii") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        draft.unlink()


def is_alive(pid: int) -> bool:
    """Whether the process exists, also if it belongs to another user."""
    if pid <= 0 or os.name != "posix":
        return pid > 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

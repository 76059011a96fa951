"""Where things live on this machine: the data folder, and what a service leaves in it for others.

A service writes ``admin-token`` (mode 0600) and, while it listens, ``service.json``; the CLI and
the Python client find the local service through these two.
"""

import os
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
    """What ``service.json`` says: where the service listens, and its process."""

    url: str
    pid: int


class Starting(msgspec.Struct, frozen=True):
    """What ``starting.json`` says while a service cannot start yet: its process, and what it waits
    for."""

    pid: int
    waits_for: str


def default_data(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The user's data folder, as the platform's customs have it."""
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "boxsched"
    shared = environment.get("XDG_DATA_HOME", "")
    # The XDG rules: a relative path in the variable is to be ignored.
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
        """The admin token; None where there is none, or it is not ours to read."""
        try:
            return self.token_file.read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def listening(self) -> Listening | None:
        """What the last service on this folder said; it may have been killed since."""
        try:
            return msgspec.json.decode(self.service_file.read_bytes(), type=Listening)
        except (OSError, msgspec.DecodeError):
            return None

    def starting(self) -> Starting | None:
        """A service on this folder that waits to start, and lives."""
        try:
            found = msgspec.json.decode(self.starting_file.read_bytes(), type=Starting)
        except (OSError, msgspec.DecodeError):
            return None
        return found if is_alive(found.pid) else None


def is_alive(pid: int) -> bool:
    """Whether there is such a process, also one of another user."""
    if pid <= 0 or os.name != "posix":
        return pid > 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

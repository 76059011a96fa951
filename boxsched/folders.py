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
DATABASE = "boxsched.sqlite"


class Listening(msgspec.Struct, frozen=True):
    """What ``service.json`` says: where the service listens, and its process."""

    url: str
    pid: int


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

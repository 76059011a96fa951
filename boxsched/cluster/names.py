"""A node's name: from ``--name``, or generated once and stored in the data folder."""

import os
import re
import secrets
import socket
from pathlib import Path

from boxsched.errors import Invalid

FILE = "node-name"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def node_name(asked: str | None, data: Path) -> str:
    """Return the name, the same after every restart. Raises Invalid if ``asked`` is not valid."""
    path = data / FILE
    if asked is None and path.exists():
        asked = path.read_text(errors="replace").strip()
    if asked is None:
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:50] or "node"
        asked = f"{host}-{secrets.token_hex(3)}"
        draft = data / f".{FILE}.{os.getpid()}"
        draft.write_text(asked + "\n")
        draft.replace(path)
    if not _NAME.fullmatch(asked):
        raise Invalid(
            f"{asked!r} is not a valid node name: use at most 63 letters, digits, '.', '_' and '-'"
        )
    return asked

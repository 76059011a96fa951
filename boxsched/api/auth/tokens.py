"""API tokens: their format, their roles, and the admin token in the data folder.

A token is ``bxs_``, 43 random characters (256 bits), and a checksum of 6 characters. So a mistyped
token is recognized without a look-up, and scanners can find a leaked one. Only SHA-256 sums are
stored and kept in memory. A token's text is shown once, when it is created; the admin token's text
is only in its file. ``known_tokens`` decides which tokens are valid.
"""

import enum
import hashlib
import hmac
import os
import secrets
import stat
import zlib
from pathlib import Path

from boxsched.folders import ADMIN_TOKEN, create_private
from boxsched.store.records import Token

PREFIX = "bxs_"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES = 32
_SECRET_DIGITS = 43  # 62 ** 43 > 2 ** 256
_CHECK_DIGITS = 6  # 62 ** 6 > 2 ** 32
_LENGTH = len(PREFIX) + _SECRET_DIGITS + _CHECK_DIGITS
_NAMED_BY = 12  # hex digits of its SHA-256 sum in a token's id: 48 bits, which reveal no text

OF_FILE = "file-"  # the prefix of the id of a node's token in its data folder
_OF_NODE = " of node "  # in the name of such a token, before the node's name
MADE = "token-"  # the prefix of the id of a token that was created by a call


class Role(enum.StrEnum):
    """What a token may do; ``rights`` has the details."""

    VIEWER = "viewer"  # read
    DEVELOPER = "developer"  # also submit, stop builds, deploy to the servers that it names
    OPERATOR = "operator"  # also deploy anywhere, stop anything, pause, manage workers
    ADMIN = "admin"  # everything except to act as a worker
    WORKER = "worker"  # only to act as a worker


class UnsafeToken(Exception):
    """Other users can read the token's file, or it contains no token: repair or delete it."""


def new_token() -> str:
    secret = _written(int.from_bytes(secrets.token_bytes(_SECRET_BYTES), "big"), _SECRET_DIGITS)
    return PREFIX + secret + _checksum(secret)


def looks_real(token: str) -> bool:
    """Whether the format and the checksum are right. Only the store knows whether it is valid."""
    if len(token) != _LENGTH or not token.isascii() or not token.startswith(PREFIX):
        return False
    secret = token[len(PREFIX) : -_CHECK_DIGITS]
    return hmac.compare_digest(token[-_CHECK_DIGITS:], _checksum(secret))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def token_id(prefix: str, sha256: str) -> str:
    return prefix + sha256[:_NAMED_BY]


def principal(token: Token) -> str:
    """Return the token's name, the same on every node; keys and sessions belong to it."""
    return f"{token.role}:{token.digest[:_NAMED_BY]}"


def _checksum(secret: str) -> str:
    return _written(zlib.crc32(secret.encode()), _CHECK_DIGITS)


def _written(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text


def admin_token(data: Path) -> str:
    """Return the admin token of a data folder; create it at the first start. Raises UnsafeToken."""
    path = data / ADMIN_TOKEN
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    create_private(path, new_token() + "\n")
    return _read(path)


def of_file(data: Path, node: str, now: float) -> Token:
    """Return the data folder's admin token as the store keeps it. Raises UnsafeToken."""
    sha256 = digest(admin_token(data))
    return Token(
        id=token_id(OF_FILE, sha256),
        digest=sha256,
        role=Role.ADMIN.value,
        name=f"{ADMIN_TOKEN}{_OF_NODE}{node}",
        created_at=now,
        instance=True,
    )


def replaces(own: Token, other: Token) -> bool:
    """Whether ``other`` was in this node's file before. Deleting the file revokes it."""
    of_a_file = other.id.startswith(OF_FILE)
    return of_a_file and _node(other) == _node(own) and other.digest != own.digest


def _node(token: Token) -> str:
    """Return the node in whose file the token is, from its name. Earlier prefixes differ."""
    return token.name.partition(_OF_NODE)[2]


def _read(path: Path) -> str:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise UnsafeToken(
                f"other users can read {path} (mode {mode:04o}) and may know the token. "
                "Delete the file to create a new token; or, if nobody has read it: "
                f"chmod 600 {path}"
            )
        text = file.read(1_024).decode("ascii", "replace").strip()
    if not looks_real(text):
        raise UnsafeToken(f"{path} does not contain a token: delete the file to create a new one")
    return text

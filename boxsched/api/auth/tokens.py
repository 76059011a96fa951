"""API tokens: what they look like, what they may do, and the admin token in the data folder.

A token is ``bxs_``, 43 characters of chance (256 bits), and 6 of checksum, so that a mistyped one
is told without asking anybody, and a leaked one can be found by a scanner. Only SHA-256 sums are
stored and stay in memory; a token's text is shown once, when it is made, and the admin token's is
in its file and nowhere else. Which tokens hold: ``known_tokens``.
"""

import enum
import hashlib
import hmac
import os
import secrets
import stat
import zlib
from pathlib import Path

from boxsched.folders import ADMIN_TOKEN
from boxsched.store.records import Token

PREFIX = "bxs_"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES = 32
_SECRET_DIGITS = 43  # 62 ** 43 > 2 ** 256
_CHECK_DIGITS = 6  # 62 ** 6 > 2 ** 32
_LENGTH = len(PREFIX) + _SECRET_DIGITS + _CHECK_DIGITS
_NAMED_BY = 12  # hex digits of its SHA-256 sum name a token: 48 bits, and nothing of its text

OF_FILE = "file-"  # begins the id of a token that a node has in its data folder
_OF_NODE = " of node "  # ends the name of such a token, with the node's
MADE = "token-"  # and that of one made by a call


class Role(enum.StrEnum):
    """What a token may do."""

    ADMIN = "admin"  # all but to act as a worker
    WORKER = "worker"  # to act as a worker, and nothing else


class UnsafeToken(Exception):
    """The token's file can be read by others, or holds no token: mend or delete the file."""


def new_token() -> str:
    secret = _written(int.from_bytes(secrets.token_bytes(_SECRET_BYTES), "big"), _SECRET_DIGITS)
    return PREFIX + secret + _checksum(secret)


def looks_real(token: str) -> bool:
    """Whether its form and checksum are right; the store says whether it is a valid token."""
    if len(token) != _LENGTH or not token.isascii() or not token.startswith(PREFIX):
        return False
    secret = token[len(PREFIX) : -_CHECK_DIGITS]
    return hmac.compare_digest(token[-_CHECK_DIGITS:], _checksum(secret))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def token_id(prefix: str, sha256: str) -> str:
    return prefix + sha256[:_NAMED_BY]


def principal(token: Token) -> str:
    """The token's name on every node; keys and sessions belong to it."""
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
    """The admin token of a data folder, made on its first start; raises UnsafeToken."""
    path = data / ADMIN_TOKEN
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    # Written whole under another name, then linked: nobody ever reads half a token, and of two
    # that start at once one wins and both read the same.
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = data / f".{ADMIN_TOKEN}.{os.getpid()}.{secrets.token_hex(4)}"
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w", encoding="ascii") as out:
            out.write(new_token() + "\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
    finally:
        draft.unlink()
    return _read(path)


def of_file(data: Path, node: str, now: float) -> Token:
    """The data folder's admin token as the store keeps it; raises UnsafeToken."""
    sha256 = digest(admin_token(data))
    return Token(
        id=token_id(OF_FILE, sha256),
        digest=sha256,
        role=Role.ADMIN.value,
        name=f"{ADMIN_TOKEN}{_OF_NODE}{node}",
        created_at=now,
    )


def replaces(own: Token, other: Token) -> bool:
    """Whether the other was in this node's file before: who deletes the file means it to end."""
    of_a_file = other.id.startswith(OF_FILE)
    return of_a_file and _node(other) == _node(own) and other.digest != own.digest


def _node(token: Token) -> str:
    """Whose file it is in; what stands before that was another word once."""
    return token.name.partition(_OF_NODE)[2]


def _read(path: Path) -> str:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise UnsafeToken(
                f"{path} can be read by others (mode {mode:04o}): "
                "anyone who has read it has the token. "
                f"Delete the file for a new token, or, if nobody did: chmod 600 {path}"
            )
        text = file.read(1_024).decode("ascii", "replace").strip()
    if not looks_real(text):
        raise UnsafeToken(f"{path} does not hold a token: delete the file for a new one")
    return text

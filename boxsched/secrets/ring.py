"""The key ring: from a file, from the environment, or generated for a service with SQLite."""

import base64
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs

from boxsched.folders import create_private

KEY_BYTES = 32
MAX_KEYS = 100
MAX_FILE_BYTES = 65_536
KEY_FILE = "secrets-key"  # in the data folder
VARIABLE = "BOXSCHED_SECRETS_KEY"
MAKE_ONE = "create a key with: (umask 077; openssl rand -base64 32 > FILE)"

_ID_DIGITS = 16
_URL_SAFE = str.maketrans("-_", "+/")


class UnusableKeys(Exception):
    """The key ring cannot be used; the message names its place and what to do."""


@attrs.frozen
class KeyRing:
    """Keys by id. The key with the id ``first`` seals; every key opens."""

    first: str
    keys: Mapping[str, bytes] = attrs.field(repr=False)

    @classmethod
    def of(cls, text: str, place: str) -> "KeyRing":
        """Keys of 32 bytes in base64, separated by white space or commas; ``#`` begins a comment.

        Raises UnusableKeys, which names ``place`` and never quotes a key.
        """
        words = re.split(r"[\s,]+", re.sub(r"(?m)#.*$", "", text))
        keys = [_key(word, number, place) for number, word in enumerate(filter(None, words), 1)]
        if not keys:
            raise UnusableKeys(f"{place} contains no key: {MAKE_ONE}")
        if len(keys) > MAX_KEYS:
            raise UnusableKeys(f"{place} contains more than {MAX_KEYS} keys")
        by_id = {key_id(key): key for key in keys}
        return cls(key_id(keys[0]), by_id)


def key_id(key: bytes) -> str:
    """Return an id of the key that reveals nothing about it."""
    return hashlib.sha256(b"boxsched key " + key).hexdigest()[:_ID_DIGITS]


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _key(word: str, number: int, place: str) -> bytes:
    try:
        key = base64.b64decode(word.translate(_URL_SAFE), validate=True)
    except ValueError:  # binascii.Error is a ValueError
        key = b""
    if len(key) != KEY_BYTES:
        raise UnusableKeys(f"{place}: key {number} is not {KEY_BYTES} bytes in base64; {MAKE_ONE}")
    return key


def find_ring(
    file: Path | None,
    data: Path,
    *,
    makes: bool,
    environment: Mapping[str, str] = os.environ,
) -> KeyRing | None:
    """Return a node's key ring: from ``file``, from the environment, or from the data folder.

    ``makes``: create a key in the data folder if there is none (only with SQLite, because nodes
    that share a database need the same ring). None if there is no ring. Raises UnusableKeys.
    """
    if file is not None:
        return KeyRing.of(_read(file), str(file))
    if text := environment.get(VARIABLE, "").strip():
        return KeyRing.of(text, VARIABLE)
    own = data / KEY_FILE
    if makes and not own.exists():
        # Durable, also its entry in the folder: without the key, sealed secrets would be lost.
        create_private(own, new_key() + "\n")
    return KeyRing.of(_read(own), str(own)) if own.exists() else None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnusableKeys(f"cannot read the key file {path}: {error.strerror}") from None
    if mode & 0o007:
        raise UnusableKeys(
            f"other users of this machine can read the key file {path} (mode {mode:04o}) and may "
            f"be able to open the secrets. Run chmod 600 {path}, make a new key the first one in "
            "it, and run `boxsched secrets rotate`"
        )
    if len(data) > MAX_FILE_BYTES:
        raise UnusableKeys(f"the key file {path} has more than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise UnusableKeys(f"the key file {path} does not contain keys in base64") from None

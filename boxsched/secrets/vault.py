"""Seal and open values with AES-256-GCM, bound to their owner, name and version."""

import base64
import binascii
import os

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from boxsched.errors import SecretsUnusable
from boxsched.secrets.ring import MAKE_ONE, VARIABLE, KeyRing

PREFIX = "sealed:1:"
NONCE_BYTES = 12

NO_KEY = (
    "this node has no key for secrets: give every node the same key with --secrets-key-file FILE "
    f"or {VARIABLE}; {MAKE_ONE}"
)


def is_sealed(text: str) -> bool:
    """Whether a stored text is sealed, and not a plain value of an earlier version."""
    return text.startswith(PREFIX)


def key_of(sealed: str) -> str:
    """Return the id of the key that sealed a text."""
    return sealed.removeprefix(PREFIX).partition(":")[0]


@attrs.frozen
class Vault:
    """Seals with the first key of its ring and opens with every key. Without a ring it refuses.

    A value is bound to its ``owner`` ("project/12"), its ``name`` and its ``version`` (1 if it has
    no versions). All three are needed to open it.
    """

    ring: KeyRing | None

    @property
    def first(self) -> str:
        """Return the id of the key that seals. Raises SecretsUnusable if this node has no key."""
        return self._ring().first

    def seal(self, owner: str, name: str, version: int, plain: str) -> str:
        """Seal a value. Raises SecretsUnusable if this node has no key."""
        ring = self._ring()
        nonce = os.urandom(NONCE_BYTES)
        data = AESGCM(ring.keys[ring.first]).encrypt(
            nonce, plain.encode(), _bound(owner, name, version)
        )
        return f"{PREFIX}{ring.first}:{base64.b64encode(nonce + data).decode()}"

    def open(self, owner: str, name: str, version: int, sealed: str) -> str:
        """Open a value. Raises SecretsUnusable if no key opens it, or if it was sealed for another
        row.
        """
        ring = self._ring()
        used = key_of(sealed)
        key = ring.keys.get(used)
        if key is None:
            raise SecretsUnusable(
                f"{name} was sealed with the key {used[:16]}, which this node does not have: give "
                "every node the same keys, or set the value again"
            )
        try:
            data = base64.b64decode(sealed.rpartition(":")[2], validate=True)
            bound = _bound(owner, name, version)
            return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise SecretsUnusable(
                f"{name} cannot be opened: its row was changed or copied; set the value again"
            ) from None

    def has_key_of(self, sealed: str) -> bool:
        return self.ring is not None and key_of(sealed) in self.ring.keys

    def opened(self, owner: str, name: str, version: int, stored: str) -> str:
        """Open a sealed value; return a plain one of an earlier version as it is."""
        return self.open(owner, name, version, stored) if is_sealed(stored) else stored

    def _ring(self) -> KeyRing:
        if self.ring is None:
            raise SecretsUnusable(NO_KEY)
        return self.ring


def _bound(owner: str, name: str, version: int) -> bytes:
    assert "/" not in name, "another owner and name would give the same text"
    return f"{owner}/{name}/{version}".encode()

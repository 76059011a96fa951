"""Check whether a delivery was signed with one of the project's secrets.

The check uses the raw bytes, before anything parses them. Only HMAC-SHA-256 is accepted, in
lower-case hexadecimal digits. All comparisons are of bytes and take constant time, and every secret
is tried. So the duration reveals nothing about a secret.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence

from boxsched.webhooks.headers import Headers, one

MAX_AGE_SECONDS = 300  # limit of a generic delivery's age, and of its time in the future

_PREFIX = b"sha256="
_TIMESTAMP = re.compile("[0-9]{1,12}")

# For each provider: the headers that can contain the signature, and the prefix of its digits.
_SIGNED: Mapping[str, tuple[Sequence[str], bytes]] = {
    "github": (("X-Hub-Signature-256",), _PREFIX),
    "bitbucket": (("X-Hub-Signature",), _PREFIX),
    "bitbucket-server": (("X-Hub-Signature",), _PREFIX),
    "gitea": (("X-Gitea-Signature",), b""),
    "forgejo": (("X-Forgejo-Signature", "X-Gitea-Signature"), b""),
    "gogs": (("X-Gogs-Signature",), b""),
}


def verified(
    provider: str, headers: Headers, body: bytes, secrets: Sequence[str], now: float
) -> bool:
    """Whether one of the secrets signed the body, in the provider's format.

    ``now``: seconds since the epoch, for the timestamp of the generic provider. It takes about 1 ms
    per MiB of the body. It never raises an error, even for invalid headers.
    """
    keys = [_bytes(secret) for secret in secrets if secret]
    if provider == "gitlab":
        return _same_token(one(headers, "X-Gitlab-Token"), keys)
    if provider == "generic":
        timestamp = signed_time(headers)
        if timestamp is None:
            return False
        signed = _same_digest(
            [one(headers, "X-Boxsched-Signature")], _PREFIX, keys, (timestamp.encode() + b".", body)
        )
        return signed and abs(now - int(timestamp)) <= MAX_AGE_SECONDS
    names, prefix = _SIGNED[provider]
    return _same_digest([one(headers, name) for name in names], prefix, keys, (body,))


def signed_time(headers: Headers) -> str | None:
    """The time that a generic delivery says it was signed at, in seconds since the epoch."""
    timestamp = one(headers, "X-Boxsched-Timestamp")
    return timestamp if timestamp is not None and _TIMESTAMP.fullmatch(timestamp) else None


def _same_digest(
    given: Sequence[str | None], prefix: bytes, keys: Iterable[bytes], parts: Sequence[bytes]
) -> bool:
    found = False
    signatures = [_bytes(value) for value in given if value is not None]
    for key in keys if signatures else ():
        digest = hmac.new(key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(part)
        right = prefix + digest.hexdigest().encode()
        for signature in signatures:
            found |= hmac.compare_digest(signature, right)
    return found


def _same_token(given: str | None, keys: Iterable[bytes]) -> bool:
    """Compare GitLab's token, which is the secret itself, by hash, so that its length stays
    unknown.
    """
    if given is None:
        return False
    found = False
    hashed = hashlib.sha256(_bytes(given)).digest()
    for key in keys:
        found |= hmac.compare_digest(hashed, hashlib.sha256(key).digest())
    return found


def _bytes(text: str) -> bytes:
    """Encode as UTF-8. Invalid bytes of a header were decoded to halves of surrogate pairs."""
    return text.encode("utf-8", "surrogatepass")

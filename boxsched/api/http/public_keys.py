"""OpenSSH public keys: the accepted types, and the pattern of a key."""

from collections.abc import Sequence

TYPES: Sequence[str] = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
LEAST_BYTES = 36

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_ANY = "[A-Za-z0-9+/]"


def _pattern(kind: str) -> str:
    """RFC 4253, 6.6: the key's base64 data begins with the type's length (4 bytes) and the type."""
    begin = len(kind).to_bytes(4, "big") + kind.encode()
    bits = "".join(f"{byte:08b}" for byte in begin)
    whole, rest = divmod(len(bits), 6)
    text = "".join(_DIGITS[int(bits[6 * n : 6 * n + 6], 2)] for n in range(whole))
    digits = whole
    if rest:  # the next digit encodes the end of the type and the start of what follows
        fit = [one for n, one in enumerate(_DIGITS) if f"{n:06b}".startswith(bits[6 * whole :])]
        text += f"[{''.join(fit)}]"
        digits += 1
    fill = -digits % 4
    more = max(0, LEAST_BYTES // 3 - (digits + fill) // 4)
    padded = f"({_ANY}{{2}}==|{_ANY}{{3}}=)?"
    named = kind.replace(".", "[.]")
    return f"{named} {text}{_ANY}{{{fill}}}({_ANY}{{4}}){{{more},}}{padded}"


def pattern(end: str) -> str:
    """Return the pattern of one key, with or without a comment. ``end`` matches the text's end."""
    kinds = "|".join(map(_pattern, TYPES))
    return rf"^({kinds})( [^\u0000-\u001f\u007f-\u009f]*)?\r?\n?{end}"


def without_comment(text: str) -> str:
    kind, digits = text.split()[:2]
    return f"{kind} {digits}"

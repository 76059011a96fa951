"""Check URLs of repositories: only the protocols that git on workers may use are allowed."""

import re
from urllib.parse import urlsplit

from boxsched.errors import Invalid

ALLOWED = (
    "https://HOST/PATH, ssh://[USER@]HOST/PATH, [USER@]HOST:PATH, "
    "or on the workers' own disk /PATH or file:///PATH"
)
_SCHEMES = ("http:", "https:", "ssh:", "git:", "file:", "ftp:", "ftps:")
_SCP_LIKE = re.compile(r"([^@/:\s-][^@/:\s]*@)?(\[[^]/\s]+\]|[^@/:\s-][^@/:\s]*):(?!:|//)\S.*")


def check_repository(text: str, field: str = "repository") -> None:
    """Raise Invalid, with the allowed formats.

    A password is refused: settings are shown, and git's arguments are seen by everyone on a worker.
    """
    if _has_password(text):
        raise Invalid("must not contain a password: give it as git_credentials.https_token", field)
    if not _allowed(text):
        scheme, separator, _ = text.partition("://")
        named = separator and scheme.isalnum() and scheme not in ("https", "ssh", "file")
        what = f"{scheme}:// is not allowed" if named else "this is not the URL of a repository"
        raise Invalid(f"{what}; allowed: {ALLOWED}", field)


def _has_password(text: str) -> bool:
    host, _, _ = text.partition("://")[2].partition("/")
    return ":" in host.rpartition("@")[0]


def _allowed(text: str) -> bool:
    if text.startswith(("https://", "ssh://")):
        try:
            parts = urlsplit(text)
            has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:  # an invalid port or IPv6 address
            return False
        return has_host and not (parts.hostname or "").startswith("-")
    if text.startswith("file://"):
        return text.startswith("file:///")
    if text.startswith("/"):
        return True
    # ``https:/host/path`` would mean a path on a host named "https".
    return _SCP_LIKE.fullmatch(text) is not None and not text.lower().startswith(_SCHEMES)

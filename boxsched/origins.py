"""Find the host and port of a repository's URL, and the user name for a token."""

from urllib.parse import urlsplit

DEFAULT_USER = "x-access-token"  # code hosts accept any name with a token, or this one
HTTPS_PORT = 443


def origin_of(repository: str) -> str | None:
    """Return ``https://HOST[:PORT]`` of a URL; None if git uses another protocol."""
    if not repository.startswith("https://"):
        return None
    parts = urlsplit(repository)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    return f"https://{host}" + (f":{parts.port}" if parts.port not in (None, HTTPS_PORT) else "")


def user_of(repository: str) -> str:
    """Return the user name to send with a token: the one in the URL, else DEFAULT_USER."""
    return urlsplit(repository).username or DEFAULT_USER


def is_ssh(repository: str) -> bool:
    """Whether git reaches the repository by SSH: ``ssh://...`` or ``HOST:PATH``."""
    if repository.startswith("ssh://"):
        return True
    return not repository.startswith(("https://", "file://", "/"))

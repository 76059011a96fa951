"""Check the targets of a project's notifications, and name them."""

import hashlib

from yarl import URL

from boxsched.errors import Invalid

DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(url: str, field: str) -> str:
    """Return host and port of an http(s) URL, normalized for counting deliveries by host.

    Raises Invalid for other URLs. The host's address is checked at each connection.
    """
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError:
        raise Invalid("must be a URL such as https://HOST/PATH", field) from None
    if parsed.scheme not in DEFAULT_PORTS or not host or not port:
        raise Invalid("must be a URL that begins with https:// or http://", field)
    if parsed.user is not None or parsed.password is not None:
        raise Invalid("must not contain a user name or password", field)
    return f"{host.lower()}:{port}"


def hook_name(url: str) -> str:
    """Return the name of a hook's target. Another URL is a new target, with a new secret."""
    return f"hook.{hashlib.sha256(url.encode()).hexdigest()[:32]}"

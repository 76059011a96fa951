"""Where a project's notifications may go: checks of URLs, and names that stay."""

import hashlib

from yarl import URL

from boxsched.errors import Invalid

DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(url: str, field: str) -> str:
    """The host and port of an http(s) URL, in the form in which deliveries are counted by host.

    Raises Invalid for another URL. Which address the host has is checked when it is connected to.
    """
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError:
        raise Invalid("this is not a URL: give https://HOST/PATH", field) from None
    if parsed.scheme not in DEFAULT_PORTS or not host or not port:
        raise Invalid("must be a URL that begins with https:// or http://", field)
    if parsed.user is not None or parsed.password is not None:
        raise Invalid("must not contain a user name or password", field)
    return f"{host.lower()}:{port}"


def hook_name(url: str) -> str:
    """The name of a hook's target: it has a new secret and a new order when its URL changes."""
    return f"hook.{hashlib.sha256(url.encode()).hexdigest()[:32]}"

"""Which branches the servers of a project follow, from the project's settings."""

from collections.abc import Mapping

import msgspec

from boxsched.model import DEFAULT_BRANCH


class _Server(msgspec.Struct):
    branch: str | None = None
    strategy: str = "manual"


class _Settings(msgspec.Struct):
    default_branch: str | None = None
    servers: Mapping[str, _Server] = {}


_settings = msgspec.json.Decoder(_Settings)

Followed = Mapping[str, tuple[str, ...]]  # the servers that follow a branch, by branch


def followed(settings: str) -> Followed:
    """Return the servers with the strategy ``automatic``, by branch. ``settings`` is JSON.

    A server without a branch follows the project's default branch.
    """
    found: dict[str, tuple[str, ...]] = {}
    read = _settings.decode(settings)
    for name, server in read.servers.items():
        if server.strategy == "automatic":
            branch = server.branch or read.default_branch or DEFAULT_BRANCH
            found[branch] = (*found.get(branch, ()), name)
    return found

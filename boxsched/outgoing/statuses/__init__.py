"""Commit statuses: for each provider, a pure module makes the request for its API.

Each module has ``default_api`` (the base URL of the API, from the repository's host; None: there is
no default) and ``request``.
"""

from collections.abc import Callable, Mapping

from boxsched.outgoing.requests import OutgoingRequest
from boxsched.outgoing.statuses import (
    bitbucket_cloud,
    bitbucket_server,
    gitea,
    github,
    gitlab,
)
from boxsched.outgoing.statuses.status import Status
from boxsched.repository import Repository

EVENTS = ("workload.registered", "workload.started", "workload.commit", "workload.finished")

_MODULES = {
    "github": github,
    "gitlab": gitlab,
    "bitbucket": bitbucket_cloud,
    "bitbucket-server": bitbucket_server,
    "gitea": gitea,
    "forgejo": gitea,
}
PROVIDERS = tuple(_MODULES)
_REQUESTS: Mapping[str, Callable[[str, Repository, Status, str], OutgoingRequest]] = {
    name: module.request for name, module in _MODULES.items()
}
_DEFAULTS: Mapping[str, Callable[[Repository], str | None]] = {
    name: module.default_api for name, module in _MODULES.items()
}


def default_api(provider: str, repository: Repository) -> str | None:
    """Return the base URL of the provider's API for a repository; None if it is not known."""
    return _DEFAULTS[provider](repository)


def request(
    provider: str, api: str, repository: Repository, status: Status, token: str
) -> OutgoingRequest:
    return _REQUESTS[provider](api.rstrip("/"), repository, status, token)

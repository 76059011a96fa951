"""Bitbucket Cloud: ``POST /repositories/{workspace}/{repo}/commit/{sha}/statuses/build``.

A token is an access token; ``USER:APP_PASSWORD`` is sent as basic authentication.
"""

import base64
import hashlib
from urllib.parse import quote

import msgspec

from boxsched.outgoing.requests import USER_AGENT, OutgoingRequest
from boxsched.outgoing.statuses.status import Shown, Status, without_none
from boxsched.repository import Repository

STATES = {
    Shown.REGISTERED: "INPROGRESS",
    Shown.RUNNING: "INPROGRESS",
    Shown.PASSED: "SUCCESSFUL",
    Shown.FAILED: "FAILED",
    Shown.STOPPED: "STOPPED",
    Shown.CANCELED: "STOPPED",
}
MAX_KEY_CHARACTERS = 40
NO_PAGE = "https://bitbucket.org/{path}/commits/{commit}"  # a status must have a link


def default_api(repository: Repository) -> str | None:
    return "https://api.bitbucket.org/2.0"


def request(api: str, repository: Repository, status: Status, token: str) -> OutgoingRequest:
    path = quote(repository.owner_and_name)
    body = {
        "key": _key(status.context),
        "state": STATES[status.shown],
        "name": status.context,
        "description": status.description,
        "url": status.link or NO_PAGE.format(path=path, commit=status.commit),
        "refname": status.branch,
    }
    basic = base64.b64encode(token.encode()).decode()
    headers = {
        "Authorization": f"Basic {basic}" if ":" in token else f"Bearer {token}",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }
    url = f"{api}/repositories/{path}/commit/{status.commit}/statuses/build"
    return OutgoingRequest(url, headers, msgspec.json.encode(without_none(body)))


def _key(context: str) -> str:
    """Return the context as a key of at most 40 characters: a longer one ends with its hash."""
    if len(context) <= MAX_KEY_CHARACTERS:
        return context
    return f"{context[:31]}-{hashlib.sha256(context.encode()).hexdigest()[:8]}"

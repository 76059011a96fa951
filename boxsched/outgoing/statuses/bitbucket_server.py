"""Bitbucket Server and Data Center: ``POST /rest/build-status/1.0/commits/{sha}``."""

import msgspec

from boxsched.outgoing.requests import USER_AGENT, OutgoingRequest
from boxsched.outgoing.statuses.status import Shown, Status, without_none
from boxsched.repository import Repository

# It has only these three states; the description says that a build was stopped or canceled.
STATES = {
    Shown.REGISTERED: "INPROGRESS",
    Shown.RUNNING: "INPROGRESS",
    Shown.PASSED: "SUCCESSFUL",
    Shown.FAILED: "FAILED",
    Shown.STOPPED: "FAILED",
    Shown.CANCELED: "FAILED",
}


def default_api(repository: Repository) -> str | None:
    return f"https://{repository.host}" if repository.host else None


def request(api: str, repository: Repository, status: Status, token: str) -> OutgoingRequest:
    body = {
        "state": STATES[status.shown],
        "key": status.context,
        "name": status.context,
        "description": status.description,
        "url": status.link or api,  # a status must have a link
    }
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }
    url = f"{api}/rest/build-status/1.0/commits/{status.commit}"
    return OutgoingRequest(url, headers, msgspec.json.encode(without_none(body)))

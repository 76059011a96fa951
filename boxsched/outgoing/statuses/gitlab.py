"""GitLab: ``POST /projects/{path}/statuses/{sha}``, with the project's path as its id."""

from urllib.parse import quote

import msgspec

from boxsched.outgoing.requests import USER_AGENT, OutgoingRequest
from boxsched.outgoing.statuses.status import Shown, Status, without_none
from boxsched.repository import Repository

STATES = {
    Shown.REGISTERED: "pending",
    Shown.RUNNING: "running",
    Shown.PASSED: "success",
    Shown.FAILED: "failed",
    Shown.STOPPED: "canceled",
    Shown.CANCELED: "canceled",
}

# Its answer, with 400, to a state that the commit has already or has passed: a status can be sent
# twice, and another build of the commit can be further. The next state is sent nevertheless.
NO_TRANSITION = b"Cannot transition status"


def default_api(repository: Repository) -> str | None:
    return f"https://{repository.host}/api/v4" if repository.host else None


def request(api: str, repository: Repository, status: Status, token: str) -> OutgoingRequest:
    body = {
        "state": STATES[status.shown],
        "name": status.context,
        "ref": status.ref,
        "description": status.description,
        "target_url": status.link,
    }
    headers = {
        "PRIVATE-TOKEN": token,
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }
    url = f"{api}/projects/{quote(repository.path, safe='')}/statuses/{status.commit}"
    return OutgoingRequest(url, headers, msgspec.json.encode(without_none(body)), NO_TRANSITION)

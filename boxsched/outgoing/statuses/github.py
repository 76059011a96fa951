"""GitHub and GitHub Enterprise Server: ``POST /repos/{owner}/{repo}/statuses/{sha}``."""

from urllib.parse import quote

import msgspec

from boxsched.outgoing.requests import USER_AGENT, OutgoingRequest
from boxsched.outgoing.statuses.status import Shown, Status, without_none
from boxsched.repository import Repository

STATES = {
    Shown.REGISTERED: "pending",
    Shown.RUNNING: "pending",
    Shown.PASSED: "success",
    Shown.FAILED: "failure",
    Shown.STOPPED: "error",
    Shown.CANCELED: "error",
}


def default_api(repository: Repository) -> str | None:
    if repository.host == "github.com":
        return "https://api.github.com"
    return f"https://{repository.host}/api/v3" if repository.host else None


def request(api: str, repository: Repository, status: Status, token: str) -> OutgoingRequest:
    body = {
        "state": STATES[status.shown],
        "context": status.context,
        "description": status.description,
        "target_url": status.link,
    }
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }
    path = quote(repository.owner_and_name)
    url = f"{api}/repos/{path}/statuses/{status.commit}"
    return OutgoingRequest(url, headers, msgspec.json.encode(without_none(body)))

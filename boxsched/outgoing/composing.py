"""Make the request that delivers a claimed notification."""

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

import attrs

from boxsched.model import workload_text
from boxsched.outgoing import hooks, statuses
from boxsched.outgoing.requests import OutgoingRequest
from boxsched.outgoing.statuses.status import Shown, Status
from boxsched.repository import repository
from boxsched.secrets.owners import of_project
from boxsched.secrets.vault import Vault
from boxsched.store.records import Workload
from boxsched.store.steps.notifications import Claimed

_SHOWN = {
    "workload.registered": Shown.REGISTERED,
    "workload.started": Shown.RUNNING,
    "workload.commit": Shown.RUNNING,
}


class Undeliverable(Exception):
    """The notification can never be sent; the message is the reason."""


@attrs.frozen
class Composer:
    """``shape``: converts a workload into the API's JSON value. ``page``: the page's URL."""

    cluster: str
    page: str
    vault: Vault
    shape: Callable[[Workload], object]

    def request(self, one: Claimed, workload: Workload, now: float) -> OutgoingRequest:
        """Return the request. Raises Undeliverable, SecretsUnusable."""
        if one.url is None:
            raise Undeliverable("the project's settings no longer name this target")
        secret = None
        if one.sealed is not None:
            secret = self.vault.open(of_project(one.project), one.target, 1, one.sealed)
        if one.provider is None:
            delivery = hooks.delivery_id(self.cluster, one.id, one.at)
            at = datetime.fromtimestamp(one.at, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
            shape = self.shape(workload)
            return hooks.request(one.url, delivery, one.event, at, shape, secret, now)
        if workload.commit is None or one.repository is None or secret is None:
            raise Undeliverable("there is no commit, repository or token for a commit status")
        where = repository(one.repository)
        status = self._status(one, workload, workload.commit)
        return statuses.request(one.provider, one.url, where, status, secret)

    def _status(self, one: Claimed, workload: Workload, commit: str) -> Status:
        id_ = workload_text(workload.id)
        return Status(
            _SHOWN.get(one.event) or Shown(str(workload.result)),
            commit,
            workload.project_name,
            workload.number,
            workload.branch,
            workload.tag,
            f"{self.page.rstrip('/')}/#{quote(id_)}",
        )

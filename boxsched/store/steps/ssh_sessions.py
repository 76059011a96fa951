"""SSH sessions: how they are reached, and at which worker."""

from collections.abc import Sequence

from boxsched.model import JobId, WorkloadId, job_id, job_workload
from boxsched.store import rows
from boxsched.store.blocks import Steps, load
from boxsched.store.records import SshPlace, SshWorker

_SQL = load("ssh_sessions.sql")


def open_ssh_session(job: JobId, lease_token: int, place: SshPlace) -> Steps[bool]:
    written = yield _SQL["open_ssh_session"](
        workload=job_workload(job),
        job=job,
        lease_token=lease_token,
        host=place.host,
        port=place.port,
        host_key=place.host_key,
    )
    return bool(written)


def places(ids: Sequence[WorkloadId]) -> Steps[dict[WorkloadId, SshPlace]]:
    """Return how these sessions are reached, without those that cannot be entered."""
    if not ids:
        return {}
    found = yield _SQL["ssh_sessions"].rows([(id_, job_id(id_, 0)) for id_ in ids])
    return {WorkloadId(row[0]): rows.ssh_place(row) for row in found}


def worker(id_: WorkloadId) -> Steps[SshWorker | None]:
    found = yield _SQL["ssh_worker"](workload=id_, job=job_id(id_, 0))
    return rows.ssh_worker(found[0]) if found else None

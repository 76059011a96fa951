"""From an assignment to what a supervisor runs: environment, git steps, script."""

import math
import zlib

import attrs

from boxsched.model import Kind, job_text, workload_text
from boxsched.protocol.assignments import Assignment
from boxsched.worker.agent.repository import JOB_PATH, Unrunnable, checkout_steps, program
from boxsched.worker.agent.script import script as script_of
from boxsched.worker.supervisor.folder import HOME, SCRIPT, TMP, Record, Step
from boxsched.worker.supervisor.given import NOTHING, Given

JOB_LANG = "C.UTF-8"
SSH_NOT_YET = "SSH sessions are scheduled, but cannot be opened yet"


@attrs.frozen
class Worksite:
    """What all attempts of one agent have in common."""

    folder: str
    at: int  # the folder's descriptor
    cluster: str
    boot: str
    log_limit: int
    cgroup_base: str | None
    stop_grace: float


def attempt_name(assignment: Assignment) -> str:
    """The attempt's folder: ``w41-2-1`` is the first attempt at the second job of w41."""
    return f"{job_text(assignment.job)}-{assignment.attempt}"


def plan(
    assignment: Assignment, site: Worksite, lost_after: float | None = None
) -> tuple[Record, bytes, Given]:
    """The record and the script; raises Unrunnable. Only a build ends where its worker is lost."""
    if assignment.refusal is not None:
        raise Unrunnable(assignment.refusal)
    if assignment.kind is Kind.SSH:
        raise Unrunnable(SSH_NOT_YET)
    name = attempt_name(assignment)
    folder = f"{site.folder}/{name}"
    # No parser is between the commands and bash: they are a file, and the file's name an argument.
    script = Step("the script", [program("bash"), "-e", f"{folder}/{SCRIPT}"], {}, False, True)
    secret = given_to(assignment)
    record = Record(
        cluster=site.cluster,
        job=assignment.job,
        attempt=assignment.attempt,
        lease_token=assignment.lease_token,
        boot=site.boot,
        timeout_seconds=assignment.timeout_seconds,
        log_limit=site.log_limit,
        cgroup=cgroup_of(site, name),
        environment=job_environment(assignment, folder),
        steps=[*checkout_steps(assignment), script],
        lost_after=_deadline(assignment.kind, lost_after),
        stop_grace=site.stop_grace,
        has_given=secret != NOTHING,
    )
    _check_texts(record)
    try:
        return record, script_of(assignment.commands, show=assignment.show_commands), secret
    except UnicodeEncodeError:
        raise Unrunnable("its commands are not valid text") from None


def given_to(assignment: Assignment) -> Given:
    """The secrets of a job. A variable that the job sets itself stays as it sets it; the value of a
    secret that has its name is masked all the same."""
    taken = [secret for secret in assignment.secrets if secret.name not in assignment.environment]
    return Given(
        {secret.name: secret.value for secret in taken if not secret.file},
        {secret.name: secret.value for secret in taken if secret.file},
        [secret.value for secret in assignment.secrets if secret not in taken],
    )


def job_environment(assignment: Assignment, folder: str) -> dict[str, str]:
    """All of it. The job's own environment comes over what has a default, but not over what we
    vouch for."""
    vouched = {
        "BOXSCHED_PROJECT": assignment.project,
        "BOXSCHED_KIND": assignment.kind.value,
        # A deploy's branch or tag only says where its code is from.
        "BOXSCHED_BRANCH": None if assignment.server else assignment.branch,
        "BOXSCHED_TAG": None if assignment.server else assignment.tag,
        "BOXSCHED_SERVER": assignment.server,
        "BOXSCHED_COMMIT": assignment.commit,
        "BOXSCHED_WORKLOAD": workload_text(assignment.workload),
        "BOXSCHED_JOB": job_text(assignment.job),
        "BOXSCHED_ATTEMPT": str(assignment.attempt),
        "BOXSCHED_LEASE_TOKEN": str(assignment.lease_token),
    }
    return {
        "PATH": JOB_PATH,
        "LANG": JOB_LANG,
        "HOME": f"{folder}/{HOME}",
        "TMPDIR": f"{folder}/{TMP}",
        **assignment.environment,
        **{name: value for name, value in vouched.items() if value is not None},
    }


def cgroup_of(site: Worksite, name: str) -> str | None:
    """Flat, below the agent's own; the folder's checksum tells it from another service's."""
    if site.cgroup_base is None:
        return None
    return f"{site.cgroup_base}/boxsched-{zlib.crc32(site.folder.encode()):08x}-{name}"


def _check_texts(record: Record) -> None:
    """What no program can be given: found here, where it has a name."""
    for name, value in record.environment.items():
        if not name or "=" in name or not _fits(name) or not _fits(value):
            raise Unrunnable(f"its environment cannot have {name!a}")
    if not all(_fits(argument) for step in record.steps for argument in step.argv):
        raise Unrunnable("its branch, tag or repository is not valid text")


def _fits(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _deadline(kind: Kind, lost_after: float | None) -> float | None:
    """None where nobody else will ever run it; infinite while there is only one node."""
    if kind is not Kind.BUILD:
        return None
    return math.inf if lost_after is None else lost_after

"""Make a supervisor's record from an assignment: environment, git steps, script."""

import math
import os

import attrs

from boxsched.git_access import CERTIFICATES, GitAccess
from boxsched.model import Kind, job_text, workload_text
from boxsched.protocol.assignments import Assignment
from boxsched.worker.agent import limiting, session_program
from boxsched.worker.agent.images import FOLDER, NO_IMAGES, SCRIPT_ARGV, Images, NoImage, in_image
from boxsched.worker.agent.local_repository import NotShown, local_repository
from boxsched.worker.agent.repository import JOB_PATH, Unrunnable, checkout_steps, program
from boxsched.worker.agent.script import script as script_of
from boxsched.worker.supervisor import isolation as inside
from boxsched.worker.supervisor.container import Container
from boxsched.worker.supervisor.folder import HOME, SCRIPT, TMP, CacheUse, Record, Step
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.job_secrets import NO_SECRETS, JobSecrets
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits
from boxsched.worker.supervisor.session import SessionPlan

JOB_LANG = "C.UTF-8"
NO_KEY = "the node is of an earlier version, which cannot open SSH sessions"


@attrs.frozen
class Worksite:
    """The settings that all attempts of one agent share."""

    folder: str
    at: int  # the folder's descriptor
    cluster: str
    boot: str
    log_limit: int
    cgroup_base: str | None
    stop_grace: float
    isolation: Isolation | None = None  # None: jobs run as this worker does
    limits: Limits = NO_LIMITS
    images: Images = NO_IMAGES
    limit_bases: tuple[str, ...] = ()  # cgroups below which this or an earlier agent made others
    ssh_address: str | None = None  # where SSH sessions listen; None: only for this agent

    def places(self, name: str) -> "Places":
        """Return the paths that the job of the attempt ``name`` sees."""
        if self.isolation is not None:
            return Places(inside.SCRIPT, inside.HOME, inside.TMP)
        folder = f"{self.folder}/{name}"
        return Places(f"{folder}/{SCRIPT}", f"{folder}/{HOME}", f"{folder}/{TMP}")


@attrs.frozen
class Places:
    script: str
    home: str
    tmp: str


def attempt_name(assignment: Assignment) -> str:
    """Return the name of the attempt's folder: ``w41-2-1`` is the first attempt at w41's job 2."""
    return f"{job_text(assignment.job)}-{assignment.attempt}"


def plan(
    assignment: Assignment, site: Worksite, lost_after: float | None = None
) -> tuple[Record, bytes, JobSecrets]:
    """Return the record, the script and the secrets. Raises Unrunnable.

    ``lost_after``: seconds; used for builds only. Only a build ends when its worker is lost.
    """
    if assignment.refusal is not None:
        raise Unrunnable(assignment.refusal)
    name = attempt_name(assignment)
    places = site.places(name)
    session = _session(assignment, site)
    # Nothing parses the commands before bash: they are in a file, whose name is an argument.
    argv = [program("bash"), "-e", places.script]
    if session is not None:
        argv = session_program.arguments()
    image, container = _image(assignment, site)
    if assignment.image is not None:
        argv = SCRIPT_ARGV
    script = Step("the script", argv, {}, False, True)
    secret = secrets_of(assignment)
    try:
        local = local_repository(assignment.repository, site.isolation)
    except NotShown as problem:
        raise Unrunnable(str(problem)) from None
    is_fixed = secret.access is not None or local is not None
    git = git_environment(assignment, places) if is_fixed else None
    record = Record(
        cluster=site.cluster,
        job=assignment.job,
        attempt=assignment.attempt,
        lease_token=assignment.lease_token,
        boot=site.boot,
        timeout_seconds=assignment.timeout_seconds,
        log_limit=site.log_limit,
        cgroup=cgroup_of(site, name),
        environment=job_environment(assignment, places),
        steps=[*checkout_steps(assignment, git, local), script],
        lost_after=_deadline(assignment.kind, lost_after),
        stop_grace=site.stop_grace,
        has_secrets=secret != NO_SECRETS,
        isolation=site.isolation,
        limits=site.limits.below(cgroup_name(site, name)),
        session=session,
        artifacts=list(assignment.artifacts),
        is_given=assignment.is_given_artifacts,
        cache=_cache_of(assignment),
        image=image,
        container=container,
    )
    _check_texts(record)
    try:
        return record, script_of(assignment.commands, show=assignment.show_commands), secret
    except UnicodeEncodeError:
        raise Unrunnable("its commands are not valid text") from None


def _session(assignment: Assignment, site: Worksite) -> SessionPlan | None:
    """Return what the server of an SSH session needs; None for other jobs. Raises Unrunnable."""
    if assignment.kind is not Kind.SSH:
        return None
    if assignment.public_key is None:
        raise Unrunnable(NO_KEY)
    keys = [assignment.public_key]
    return SessionPlan(keys, assignment.ssh_forwarding, program("bash"), site.ssh_address)


def _cache_of(assignment: Assignment) -> CacheUse | None:
    its = assignment.kept_cache
    if its is None:
        return None
    job = f"{assignment.kind.value} {assignment.name}"
    return CacheUse(its.scope, list(its.patterns), list(its.keys), its.keep, job)


def _image(
    assignment: Assignment, site: Worksite
) -> tuple[Isolation, None] | tuple[None, Container | None]:
    """Return how the job is isolated in its image, or its container. Raises Unrunnable."""
    if assignment.image is None:
        return None, None
    try:
        if assignment.image.startswith(FOLDER):
            return in_image(assignment.image, site.images, site.isolation), None
        name = cgroup_name(site, attempt_name(assignment))
        return None, site.images.container(assignment.image, name)
    except NoImage as problem:
        raise Unrunnable(str(problem)) from None


def secrets_of(assignment: Assignment) -> JobSecrets:
    """Return the secrets of a job.

    A variable in the job's own environment takes precedence over a secret of the same name. The
    secret's value is masked nevertheless.
    """
    its = assignment.credentials
    taken = [secret for secret in assignment.secrets if secret.name not in assignment.environment]
    return JobSecrets(
        {secret.name: secret.value for secret in taken if not secret.file},
        {secret.name: secret.value for secret in taken if secret.file},
        [secret.value for secret in assignment.secrets if secret not in taken],
        None if its is None else GitAccess(its.secret, its.origin, its.user),
    )


def job_environment(assignment: Assignment, places: Places) -> dict[str, str]:
    """Return the whole environment of a job.

    The job's own variables override the defaults, but not the BOXSCHED_* variables below.
    """
    ours = {
        "BOXSCHED_PROJECT": assignment.project,
        "BOXSCHED_KIND": assignment.kind.value,
        # A deploy's branch or tag only names the source of its code.
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
        "HOME": places.home,
        "TMPDIR": places.tmp,
        **assignment.environment,
        **{name: value for name, value in ours.items() if value is not None},
    }


def git_environment(assignment: Assignment, places: Places) -> dict[str, str]:
    """Return the environment of a git with credentials. It contains none of the job's variables,
    which could make git show the credentials or run a program, but this machine's certificate
    settings.
    """
    bare = attrs.evolve(assignment, environment={})
    believed = {name: os.environ[name] for name in CERTIFICATES if name in os.environ}
    return job_environment(bare, places) | believed


def cgroup_of(site: Worksite, name: str) -> str | None:
    """Return the attempt's cgroup: a direct child of the agent's."""
    if site.cgroup_base is None:
        return None
    return f"{site.cgroup_base}/{cgroup_name(site, name)}"


def cgroup_name(site: Worksite, name: str) -> str:
    """Return the name of the attempt's cgroups.

    The checksum of the folder distinguishes them from those of another service.
    """
    return f"boxsched-{limiting.mark(site.folder)}-{name}"


def limit_groups(site: Worksite, name: str) -> list[str]:
    """Return all cgroups for limits that the attempt may have."""
    return [f"{base}/{cgroup_name(site, name)}" for base in site.limit_bases]


def _check_texts(record: Record) -> None:
    """Reject text that cannot be passed to a program, with a message that names it."""
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
    """Return None for a job that never runs elsewhere, infinity while there is only one node."""
    if kind is not Kind.BUILD:
        return None
    return math.inf if lost_after is None else lost_after

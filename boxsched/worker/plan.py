"""From an assignment to what a supervisor runs: environment, git steps, script."""

import math
import re
import shutil
import zlib
from collections.abc import Iterator

import attrs

from boxsched.model import Kind, job_text, workload_text
from boxsched.store.values import Assignment
from boxsched.worker.folder import HOME, SCRIPT, TMP, Record, Step

# Fixed, so that a job does not depend on how the service was started.
JOB_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
JOB_LANG = "C.UTF-8"

# `file` is there for repositories on the worker's own disk; `ext::` and plain `http` are not.
SSH_NOT_YET = "SSH sessions are scheduled, but cannot be opened yet"
GIT_ENVIRONMENT = {"GIT_ALLOW_PROTOCOL": "file:https:ssh", "GIT_TERMINAL_PROMPT": "0"}
GIT_OPTIONS = ["-c", "gc.auto=0", "-c", "advice.detachedHead=false"]
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_FULL_COMMIT_DIGITS = (40, 64)


class Unrunnable(Exception):
    """The job cannot be run here at all; the message is its reason."""


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
) -> tuple[Record, bytes]:
    """The record and the script; raises Unrunnable. Only a build ends where its worker is lost."""
    if assignment.kind is Kind.SSH:
        raise Unrunnable(SSH_NOT_YET)
    name = attempt_name(assignment)
    folder = f"{site.folder}/{name}"
    # No parser is between the commands and bash: they are a file, and the file's name an argument.
    script = Step("the script", [program("bash"), "-e", f"{folder}/{SCRIPT}"], {}, False, True)
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
        steps=[*_clone(assignment), script],
        lost_after=_deadline(assignment.kind, lost_after),
        stop_grace=site.stop_grace,
    )
    _check_texts(record)
    try:
        return record, "".join(f"{command}\n" for command in assignment.commands).encode()
    except UnicodeEncodeError:
        raise Unrunnable("its commands are not valid text") from None


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


def program(name: str) -> str:
    return shutil.which(name, path=JOB_PATH) or f"/usr/bin/{name}"


def cgroup_of(site: Worksite, name: str) -> str | None:
    """Flat, below the agent's own; the folder's checksum tells it from another service's."""
    if site.cgroup_base is None:
        return None
    return f"{site.cgroup_base}/boxsched-{zlib.crc32(site.folder.encode()):08x}-{name}"


def _clone(assignment: Assignment) -> Iterator[Step]:
    """Names from outside stand behind ``--``, after ``=`` or behind ``refs/``: never an option."""
    if assignment.repository is None:
        return
    branch, tag, commit = assignment.branch, assignment.tag, assignment.commit
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise Unrunnable("its commit is not a commit's name")
    for kind, name in (("heads", branch), ("tags", tag)):
        if name is not None and commit is None:
            yield _git("git check-ref-format", "check-ref-format", f"refs/{kind}/{name}")
    checkout = [f"--branch={branch}"] if branch is not None and commit is None else []
    if tag is not None or commit is not None:
        checkout = ["--no-checkout"]
    # `--no-local`: else the clone's objects are hard links to the repository's own files.
    options = ["--quiet", "--no-local", *checkout]
    yield _git("git clone", "clone", *options, "--", assignment.repository, ".")
    if commit is not None:
        if len(commit) in _FULL_COMMIT_DIGITS:
            # A commit that no branch holds (a pull request's); one that is there costs nothing.
            yield _git("git fetch", "fetch", "--quiet", "origin", commit, may_fail=True)
        yield _git("git checkout", "checkout", "--quiet", "--detach", commit, "--")
    elif tag is not None:
        yield _git("git checkout", "checkout", "--quiet", "--detach", f"refs/tags/{tag}", "--")
    if commit is None:
        # An empty repository has none.
        said = _git("git rev-parse", "rev-parse", "--verify", "--quiet", "HEAD", may_fail=True)
        yield said._replace(says_commit=True)


def _git(what: str, *arguments: str, may_fail: bool = False) -> Step:
    argv = [program("git"), *GIT_OPTIONS, *arguments]
    return Step(what, argv, GIT_ENVIRONMENT, may_fail, False)


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

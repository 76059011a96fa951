"""The git steps of a job: clone, find the commit, and check it out, with submodules if configured.

All jobs and attempts of a workload run the commit that the first of them found. So the supervisor
first finds a commit (``says_commit``). It waits until the store has fixed the workload's commit
(see the package). Then it checks out that commit (``takes_commit``).

A branch is looked up as ``refs/heads/...``, a tag as ``refs/tags/...``, and a hash among objects,
never among refs. So a name never matches another kind of object.

With a ``depth``, only the needed commits are fetched: those of the branch, the tag or the whole
hash. A shortened hash is looked up among all commits, so the depth has no effect on it.

A repository can contain any URL for its submodules. Only https and ssh are allowed for them: a path
on the worker's disk may be another project's repository. They also count towards the job's time
limit.
"""

import shutil
from collections.abc import Iterator

import attrs

from boxsched import commits
from boxsched.protocol.assignments import Assignment, CloneOptions
from boxsched.worker.agent.local_repository import LocalRepository
from boxsched.worker.supervisor.folder import Step

# Fixed, so that a job does not depend on how the service was started.
JOB_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# `file` allows repositories on the worker's own disk. `ext::` and plain `http` are not allowed.
GIT_ENVIRONMENT = {"GIT_ALLOW_PROTOCOL": "file:https:ssh", "GIT_TERMINAL_PROMPT": "0"}
# `git submodule` is a shell script: it must not find its programs in the job's own PATH.
SUBMODULES_ENVIRONMENT = GIT_ENVIRONMENT | {"GIT_ALLOW_PROTOCOL": "https:ssh", "PATH": JOB_PATH}
GIT_OPTIONS = ["-c", "gc.auto=0", "-c", "advice.detachedHead=false"]

# The scripts get git's path as $1 and call no other program: a job may have another PATH. If a
# script has an option for the depth, "" means no depth.

# Fetch the ref $2 as $3, with the option $4. If it does not exist, the next step fails.
_FETCH = """
"$1" -c gc.auto=0 fetch --quiet --no-tags "$4" origin "+$2:$3" && exit
"$1" ls-remote --exit-code origin "$2" >/dev/null 2>&1
[ $? = 2 ]
"""

# Print the only commit whose hash begins with $2. A whole hash that is on no branch (for example of
# a pull request) is fetched, with the option $3; git cannot fetch a shortened hash. Some servers do
# not serve single commits: then everything is fetched.
_FIND = """
find() {
    "$1" rev-parse --disambiguate="$2" |
        "$1" cat-file --batch-check='%(objecttype) %(objectname)' |
        while read -r kind name; do
            case "$kind $name" in "commit $2"*) echo "$name" ;; esac
        done
}
found=$(find "$1" "$2")
case "${#2} $found" in
"40 " | "64 ")
    "$1" -c gc.auto=0 fetch --quiet ${3:+"$3"} origin "$2" >&2 ||
        [ -z "$3" ] || "$1" -c gc.auto=0 fetch --quiet origin >&2
    found=$(find "$1" "$2")
    ;;
esac
set -- $found
[ $# = 1 ] && echo "$1"
"""

# Print the commit of the tag whose exact ref is $2. Fails if the tag is not of a commit.
_TAG = """
"$1" show-ref --verify -- "$2" >/dev/null && "$1" rev-parse --verify "$2^{commit}"
"""

# Fetch the commit $3, a whole hash, with the option $2, unless it is here. It may be on no branch
# any more.
_HAVE = """
"$1" cat-file -e "$3^{commit}" 2>/dev/null || "$1" -c gc.auto=0 fetch --quiet ${2:+"$2"} origin "$3"
"""

# Check out the commit $2.
_CHECK_OUT = """
"$1" -c advice.detachedHead=false checkout --quiet --detach "$2" --
"""

# Get the submodules of the commit that is checked out, with the option $2.
_SUBMODULES = """
"$1" -c gc.auto=0 submodule --quiet update --init --recursive ${2:+"$2"}
"""


class Unrunnable(Exception):
    """The job can never run here; the message is the reason."""


def program(name: str) -> str:
    return shutil.which(name, path=JOB_PATH) or f"/usr/bin/{name}"


def checkout_steps(
    assignment: Assignment,
    environment: dict[str, str] | None = None,
    local: LocalRepository | None = None,
) -> Iterator[Step]:
    """Yield the git steps. Raises Unrunnable.

    A name from outside follows ``--`` or ``refs/``, or is an argument of a fixed script. So it is
    never an option or a command.

    ``environment``: the whole environment of a git with credentials, or of one that sees a
    repository on this machine, in place of the job's own. ``local``: that repository.
    """
    if local is not None:
        assert environment is not None
        environment = {**environment, **local.configuration}
        assignment = attrs.evolve(assignment, repository=local.url)
    for step in _steps(assignment, None if local is None else local.folder):
        sees_nothing = local is not None and step.takes_commit and step.reads is None
        if environment is None or sees_nothing:  # it comes after all that see it
            yield step
        else:
            yield step._replace(environment=environment | step.environment, alone=True)


def _steps(assignment: Assignment, reads: str | None) -> Iterator[Step]:
    if assignment.repository is None:
        return
    options = assignment.clone or CloneOptions()
    depth = f"--depth={options.depth}" if options.depth is not None else ""
    # Filters of a check-out may make requests to the host, like submodules.
    lent = assignment.credentials is not None
    lent_further = assignment.credentials is not None and assignment.credentials.for_submodules
    *checks, find = _find(assignment, depth)
    yield from checks
    for step in _fetch(assignment, assignment.repository, depth):
        yield step._replace(is_lent=lent, reads=reads)
    yield find._replace(says_commit=True, is_lent=lent, reads=reads)
    refusal = "git cannot check out the commit that it runs"
    have = _script("git fetch", _HAVE, depth)
    yield have._replace(takes_commit=True, refusal=refusal, is_lent=lent, reads=reads)
    out = _script("git checkout", _CHECK_OUT)
    yield out._replace(takes_commit=True, refusal=refusal, is_lent=lent_further)
    if options.submodules:
        yield _script("git submodule", _SUBMODULES, depth)._replace(
            environment=SUBMODULES_ENVIRONMENT,
            takes_commit=True,
            refusal="git cannot get the repository's submodules",
            is_lent=lent_further,
        )


def _fetch(assignment: Assignment, repository: str, depth: str) -> Iterator[Step]:
    """Yield the steps that fetch the repository: all commits, or as many as the depth allows."""
    branch, tag, commit = assignment.branch, assignment.tag, assignment.commit
    named = commit if commit is not None else branch if branch is not None else tag
    if not depth or named is None or (commit is not None and not commits.is_whole(commit.lower())):
        # Without `--no-local` its objects would be hard links to the repository's own files.
        limit = [depth, "--no-tags"] if depth and named is None else []
        options = ["--quiet", "--no-local", "--no-checkout", *limit]
        yield _git("git clone", "clone", *options, "--", repository, ".")
        return
    yield _git("git init", "init", "--quiet", ".")
    yield _git("git remote", "remote", "add", "--", "origin", repository)
    if commit is None and branch is not None:
        ref, place = f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"
        yield _script("git fetch", _FETCH, ref, place, depth)
    elif commit is None:
        yield _script("git fetch", _FETCH, f"refs/tags/{tag}", f"refs/tags/{tag}", depth)


def _find(assignment: Assignment, depth: str) -> Iterator[Step]:
    """Yield the steps that check the name, then the step that prints the commit."""
    branch, tag, commit = assignment.branch, assignment.tag, assignment.commit
    if commit is not None:
        if not commits.is_given(commit):
            raise Unrunnable("its commit is not a commit hash")
        refusal = f"git found no commit {commit} in the repository, or more than one"
        yield _script("git rev-parse", _FIND, commit.lower(), depth)._replace(refusal=refusal)
    elif branch is not None:
        if branch == "HEAD":  # a clone has refs/remotes/origin/HEAD: the default branch
            raise Unrunnable("a branch cannot have the name HEAD")
        yield _git("git check-ref-format", "check-ref-format", f"refs/heads/{branch}")
        yield _show_ref(f"refs/remotes/origin/{branch}", f"branch {branch}")
    elif tag is not None:
        yield _git("git check-ref-format", "check-ref-format", f"refs/tags/{tag}")
        refusal = f"git found no commit with the tag {tag} in the repository"
        yield _script("git show-ref", _TAG, f"refs/tags/{tag}")._replace(refusal=refusal)
    else:
        # An empty repository has no commit.
        yield _git("git rev-parse", "rev-parse", "--verify", "--quiet", "HEAD", may_fail=True)


def _show_ref(ref: str, name: str) -> Step:
    """Find exactly this ref."""
    step = _git("git show-ref", "show-ref", "--verify", "--hash", "--", ref)
    return step._replace(refusal=f"git found no {name} in the repository")


def _git(what: str, *arguments: str, may_fail: bool = False) -> Step:
    argv = [program("git"), *GIT_OPTIONS, *arguments]
    return Step(what, argv, GIT_ENVIRONMENT, may_fail, False)


def _script(what: str, text: str, *arguments: str) -> Step:
    argv = [program("sh"), "-c", text, what, program("git"), *arguments]
    return Step(what, argv, GIT_ENVIRONMENT, False, False)

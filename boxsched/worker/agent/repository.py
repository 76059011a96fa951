"""The git steps of a job: clone, find the commit, and, once it is fixed, check it out.

All jobs and attempts of a workload run one commit: the one that the first of them found. So the
supervisor looks for the commit first (``says_commit``), waits until the store has fixed it for the
workload (see the package), and then checks out exactly that one (``takes_commit``).

A branch is ``refs/heads/...``, a tag ``refs/tags/...``, and a hash is looked up among objects,
never among refs: nothing else that a repository has is taken for one of them.
"""

import shutil
from collections.abc import Iterator

from boxsched import commits
from boxsched.protocol.assignments import Assignment
from boxsched.worker.supervisor.folder import Step

# Fixed, so that a job does not depend on how the service was started.
JOB_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# `file` is there for repositories on the worker's own disk; `ext::` and plain `http` are not.
GIT_ENVIRONMENT = {"GIT_ALLOW_PROTOCOL": "file:https:ssh", "GIT_TERMINAL_PROMPT": "0"}
GIT_OPTIONS = ["-c", "gc.auto=0", "-c", "advice.detachedHead=false"]

# Both take git's path as $1, and call nothing else: a job may have another PATH.

# Print the one commit whose hash begins with $2. A whole hash that no branch holds (of a pull
# request, say) is fetched; git fetches nothing for the beginning of one.
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
    "$1" -c gc.auto=0 fetch --quiet origin "$2" >&2
    found=$(find "$1" "$2")
    ;;
esac
set -- $found
[ $# = 1 ] && echo "$1"
"""

# Print the commit that the ref $2, a tag, is of, to the letter; a tag can be of something else.
_TAG = """
"$1" show-ref --verify -- "$2" >/dev/null && "$1" rev-parse --verify "$2^{commit}"
"""

# Check out the commit $2, a whole hash. It may have left its branch since it was fixed.
_CHECK_OUT = """
"$1" cat-file -e "$2^{commit}" 2>/dev/null || "$1" -c gc.auto=0 fetch --quiet origin "$2"
"$1" -c advice.detachedHead=false checkout --quiet --detach "$2" --
"""


class Unrunnable(Exception):
    """The job cannot be run here at all; the message is its reason."""


def program(name: str) -> str:
    return shutil.which(name, path=JOB_PATH) or f"/usr/bin/{name}"


def checkout_steps(assignment: Assignment) -> Iterator[Step]:
    """Names from outside stand behind ``--``, behind ``refs/`` or are an argument of a fixed
    script: never an option, never a command. Raises Unrunnable."""
    if assignment.repository is None:
        return
    *checks, find = _find(assignment)
    # `--no-local`: else the clone's objects are hard links to the repository's own files.
    options = ["--quiet", "--no-local", "--no-checkout"]
    yield from checks
    yield _git("git clone", "clone", *options, "--", assignment.repository, ".")
    yield find._replace(says_commit=True)
    refusal = "git cannot check out the commit that it runs"
    yield _script("git checkout", _CHECK_OUT)._replace(takes_commit=True, refusal=refusal)


def _find(assignment: Assignment) -> Iterator[Step]:
    """Steps that check the name, and the one that prints the commit."""
    branch, tag, commit = assignment.branch, assignment.tag, assignment.commit
    if commit is not None:
        if not commits.is_given(commit):
            raise Unrunnable("its commit is not a commit's name")
        refusal = f"git found no commit {commit} in the repository, or several that begin so"
        yield _script("git rev-parse", _FIND, commit.lower())._replace(refusal=refusal)
    elif branch is not None:
        if branch == "HEAD":  # in a clone it would be the default branch
            raise Unrunnable("a branch cannot have the name HEAD")
        yield _git("git check-ref-format", "check-ref-format", f"refs/heads/{branch}")
        yield _show_ref(f"refs/remotes/origin/{branch}", f"branch {branch}")
    elif tag is not None:
        yield _git("git check-ref-format", "check-ref-format", f"refs/tags/{tag}")
        refusal = f"git found no commit with the tag {tag} in the repository"
        yield _script("git show-ref", _TAG, f"refs/tags/{tag}")._replace(refusal=refusal)
    else:
        # An empty repository has none.
        yield _git("git rev-parse", "rev-parse", "--verify", "--quiet", "HEAD", may_fail=True)


def _show_ref(ref: str, name: str) -> Step:
    """That ref to the letter."""
    step = _git("git show-ref", "show-ref", "--verify", "--hash", "--", ref)
    return step._replace(refusal=f"git found no {name} in the repository")


def _git(what: str, *arguments: str, may_fail: bool = False) -> Step:
    argv = [program("git"), *GIT_OPTIONS, *arguments]
    return Step(what, argv, GIT_ENVIRONMENT, may_fail, False)


def _script(what: str, text: str, *arguments: str) -> Step:
    argv = [program("sh"), "-c", text, what, program("git"), *arguments]
    return Step(what, argv, GIT_ENVIRONMENT, False, False)

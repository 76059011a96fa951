"""How this worker isolates jobs with bubblewrap: what they see, and whether it works here.

A job sees the folders of SYSTEM, read-only, and the further ones that the worker's options name. It
does not see home folders, /run, /var, the worker's data folder, or files with tokens and keys.
"""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import attrs

import boxsched
from boxsched.git_access import CERTIFICATES
from boxsched.worker.agent import session_program
from boxsched.worker.agent.repository import JOB_PATH, program
from boxsched.worker.supervisor import trouble
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.probing import BOOT

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix",
)  # fmt: skip
DEFAULT_USER = "nobody"
PROBE_SECONDS = 60.0  # a busy machine must not lose its isolation

LAST_ALIKE = "--new-session"  # the last option that is the same in an image

_ROOT = str(Path(boxsched.__file__).resolve().parent.parent)
_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts")
_REFUSALS = ("namespace", "uid map", "Operation not permitted", "Permission denied")


class BadBoxOption(Exception):
    """An option for isolated jobs cannot be used; the message says why."""


@attrs.frozen
class BoxOptions:
    """``user``: whom a worker that runs as root runs its jobs as; None: DEFAULT_USER.

    ``readable``: further files and folders that jobs can read. ``hidden``: files and folders that
    they cannot, wherever they are; the first is the data folder. ``repositories``: git sees a
    repository on this machine that the worker can read.
    """

    user: str | None = None
    network: bool = True
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    repositories: bool = False


def isolation(options: BoxOptions) -> Isolation:
    """Return how jobs are isolated. Raises BadBoxOption."""
    uid, gid = _user(options.user)
    readable = [str(path) for path in options.readable]
    for path in readable:
        if not os.path.isabs(path) or os.path.normpath(path) == "/":
            raise BadBoxOption(f"--box-readable: {path!r} must be an absolute path, and not /")
        if not os.path.exists(path):
            raise BadBoxOption(f"--box-readable: {path} does not exist")
    readable += [os.environ[name] for name in CERTIFICATES if name in os.environ]
    hidden = [os.path.realpath(path) for path in options.hidden]
    shown = {path: path for path in SYSTEM} | {path: os.path.realpath(path) for path in readable}
    seen = list(shown.values())
    arguments = [
        program("bwrap"),
        *_NAMESPACES,
        *(() if options.network else ("--unshare-net",)),
        "--die-with-parent",
        LAST_ALIKE,
        *_system(),
        *("--proc", "/proc"),
        *("--dev", "/dev"),
        *("--dir", "/run"),
        *("--symlink", "/tmp", "/var/tmp"),  # noqa: S108 (the job's own)
        *_resolver(),
    ]
    late = [
        *(word for path in readable for word in ("--ro-bind-try", path, path)),
        *_covers(hidden, shown),
    ]
    server = session_program.needed((*SYSTEM, *readable))
    return Isolation(
        arguments,
        late,
        uid,
        gid,
        server,
        list(_covers(hidden, {path: os.path.realpath(path) for path in server})),
        options.repositories,
        seen,
        hidden,
        hidden[0] if hidden else None,
    )


def _user(name: str | None) -> tuple[int | None, int | None]:
    if os.geteuid() != 0:
        if name is not None and name != pwd.getpwuid(os.geteuid()).pw_name:
            raise BadBoxOption("--box-user: only a worker that runs as root can use another user")
        return None, None
    try:
        user = pwd.getpwnam(name or DEFAULT_USER)
    except KeyError:
        raise BadBoxOption(f"--box-user: there is no user {name or DEFAULT_USER}") from None
    if user.pw_uid == 0:
        raise BadBoxOption("--box-user: jobs cannot be isolated as root; name an ordinary user")
    return user.pw_uid, user.pw_gid


def _system() -> Iterator[str]:
    for path in SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)


def _resolver() -> Iterator[str]:
    """Yield options for the file with the DNS servers, which may be a link into /run."""
    target = os.path.realpath("/etc/resolv.conf")
    if target.startswith("/run/"):
        yield from ("--ro-bind-try", target, target)


def _covers(hidden: Collection[str], shown: Mapping[str, str]) -> Iterator[str]:
    """Yield options that hide files and folders that jobs would see.

    ``shown``: what jobs see, each path with the real one. A folder that a link names appears at the
    link's path, too, with all that is in it.
    """
    for path in hidden:
        for place in dict.fromkeys(_places(path, shown)):
            if os.path.isdir(path):
                yield from ("--tmpfs", place, "--remount-ro", place)
            elif os.path.exists(path):
                yield from ("--ro-bind", os.devnull, place)


def _places(path: str, shown: Mapping[str, str]) -> Iterator[str]:
    """Yield where jobs see a real path."""
    for place, real in shown.items():
        inside = f"{real.rstrip('/')}/"
        if f"{path}/".startswith(inside):
            yield f"{place.rstrip('/')}/{f'{path}/'[len(inside) :]}".rstrip("/")


# --- Whether it works here ------------------------------------------------------------------


def probe(walls: Isolation) -> str | None:
    """Isolate a program that does nothing; return why that is impossible, or None. Blocking.

    Runs in a separate process, because a change of user cannot be undone.
    """
    if problem := trouble.missing(walls.arguments[0]):
        return problem.replace("bwrap", "bubblewrap")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", BOOT, _ROOT, json.dumps(walls)],
            env={"PATH": JOB_PATH, **_library_path()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap cannot be tried: {error}"
    if done.returncode == 0:
        return None
    return f"cannot isolate jobs: {_last_line(done.stderr)}"


def advice(problem: str) -> str:
    """Return what to do about the problem, as the end of a sentence."""
    if "not installed" in problem:
        return "install it (`apt install bubblewrap`)"
    if any(words in problem for words in _REFUSALS):
        return (
            "allow namespaces to ordinary users (sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces)"
        )
    return "see `bwrap --help`"


def _library_path() -> dict[str, str]:
    found = os.environ.get("LD_LIBRARY_PATH")  # the interpreter may need it
    return {} if found is None else {"LD_LIBRARY_PATH": found}


def _last_line(said: bytes) -> str:
    text = said.decode(errors="replace").strip().rpartition("\n")[2]
    return "".join(char if char.isprintable() else "?" for char in text)[:200] or "it says nothing"

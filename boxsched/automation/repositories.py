"""Read one file of a repository at a commit with git, within limits of time and size.

Nothing of the repository is executed. git is asked to fetch the commit, its trees and the file. A
server that ignores this (``uploadpack.allowFilter`` is off) sends the content of the whole commit.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import attrs

from boxsched.automation.git_errors import KNOWN, Sought, Unreadable, explained
from boxsched.git_access import CERTIFICATES, GitAccess, lent

MAX_SECONDS = 60.0  # for the whole operation
ENDING_SECONDS = 5.0  # for reading what a killed git left in its pipes
MAX_FILE_BYTES = 256 * 1024
# limit of a file that git writes; it writes all that it fetches into one file
MAX_FETCH_BYTES = 256 << 20
# address space of one git process, which unpacks trees and commits in memory
MAX_MEMORY_BYTES = 3 << 30
MAX_ERROR_OUTPUT_BYTES = 4_096  # limit of git's error output

# The same protocols as for a job's clone. `file` is for repositories on the machine's own disk.
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "file:https:ssh",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GCM_INTERACTIVE": "never",
    "LC_ALL": "C",
}
_SETTINGS = (
    "gc.auto=0",
    "core.hooksPath=/dev/null",
    "protocol.version=2",
    "fetch.recurseSubmodules=false",
    "fetch.unpackLimit=1",  # into one file, whose size has a limit
    "core.bigFileThreshold=1m",  # larger files are not unpacked in memory
    "pack.threads=1",
)
_PREFIX = "plan-"  # names of temporary folders begin with it
_OPTIONS = tuple(word for setting in _SETTINGS for word in ("-c", setting))
# `ulimit -f` counts blocks of 512 bytes, `ulimit -v` KiB.
_LIMITED = 'ulimit -f "$1" && ulimit -v "$2" && shift 2 && exec "$@"'

_PASSED_ON = ("PATH", "HOME", "SSH_AUTH_SOCK", "USER", "TMPDIR", *CERTIFICATES)


@attrs.frozen
class FoundFile:
    """The file's content, and the full hash of its commit."""

    data: bytes
    commit: str


async def read_file(
    repository: str,
    *,
    ref: str | None,
    commit: str | None,
    path: str,
    folder: Path,
    access: GitAccess | None = None,
) -> FoundFile:
    """Read the file at ``path``, at the commit or else at the head of ``ref``
    (``refs/heads/main``).

    ``folder``: where a temporary folder is made. ``access``: what git may use to reach the
    repository. Raises Unreadable.
    """
    try:
        async with asyncio.timeout(MAX_SECONDS), _temporary(folder) as place:
            return await _read(place, repository, ref, commit, path, access)
    except TimeoutError:
        raise Unreadable(f"git took more than {MAX_SECONDS:g} s", lasting=False) from None
    except OSError as error:  # a problem of the node: a full disk, no free file descriptor
        raise Unreadable(f"the node cannot run git: {error.strerror}", lasting=False) from None


@contextlib.asynccontextmanager
async def _temporary(folder: Path) -> AsyncIterator[Path]:
    """Provide a temporary folder. A thread creates and removes it, because it may be large."""
    place = await asyncio.to_thread(tempfile.mkdtemp, prefix=_PREFIX, dir=folder)
    try:
        yield Path(place)
    finally:
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove temporary folders that a killed node left behind. Blocking."""
    for left in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


async def _read(
    place: Path,
    repository: str,
    ref: str | None,
    commit: str | None,
    path: str,
    access: GitAccess | None,
) -> FoundFile:
    await _git(place, "init", "--quiet", "--bare", ".")
    await _git(place, "remote", "add", "--", "origin", repository)
    whole = commit is not None and len(commit) >= 40
    fetch = ["fetch", "--quiet", "--no-tags", "--filter=blob:none"]
    if commit is None or whole:
        wanted = commit if commit is not None else ref
        sought = Sought(repository, str(wanted))
        fetch += ["--depth=1", "--", "origin", str(wanted)]
        await _git(place, *fetch, access=access, sought=sought)
        found = await _git(place, "rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}")
    else:  # a shortened hash is looked up among the commits of the ref
        sought = Sought(repository, str(ref))
        await _git(place, *fetch, "--", "origin", str(ref), access=access, sought=sought)
        try:
            found = await _git(place, "rev-parse", "--verify", f"{commit}^{{commit}}")
        except Unreadable:
            raise Unreadable(
                f"git found no commit {commit}, or more than one", lasting=True
            ) from None
    head = found.decode("ascii", "replace").strip()
    listed = await _git(place, "ls-tree", "-z", "--long", head, "--", path, access=access)
    if not listed.startswith((b"100644 blob", b"100755 blob")):
        missing = f"there is no file {path} at commit {head[:12]}"
        raise Unreadable(missing, lasting=True, commit=head)
    size = int(listed.partition(b"\t")[0].split()[3])  # mode, type, hash, size, tab, path
    if size > MAX_FILE_BYTES:
        large = f"the file has more than {MAX_FILE_BYTES} bytes"
        raise Unreadable(large, lasting=True, commit=head)
    return FoundFile(await _git(place, "cat-file", "blob", f"{head}:{path}", access=access), head)


async def _git(
    place: Path,
    *arguments: str,
    access: GitAccess | None = None,
    sought: Sought | None = None,
) -> bytes:
    """Run git and return at most MAX_FILE_BYTES of its output. Raises Unreadable if it fails."""
    program, shell = shutil.which("git"), shutil.which("sh")
    if program is None or shell is None:
        raise Unreadable("git is not installed on the node", lasting=False)
    limits = str(MAX_FETCH_BYTES // 512), str(MAX_MEMORY_BYTES // 1024)
    with lent(access) as (file, says):
        process = await asyncio.create_subprocess_exec(
            shell, "-c", _LIMITED, "git", *limits,
            program, "-C", str(place), *_OPTIONS, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={**_environment(os.environ), **says},
            start_new_session=True, pass_fds=() if file is None else (file,),
        )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    try:
        written, said = await asyncio.gather(
            _first(process.stdout, MAX_FILE_BYTES), _first(process.stderr, MAX_ERROR_OUTPUT_BYTES)
        )
        if await process.wait():
            raise _failure(place, _error_line(said) or f"git {arguments[0]} failed", sought)
        return written
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # asyncio also waits for the ends of the pipes, so what is left in them must be read.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDING_SECONDS):
                    await asyncio.gather(_first(process.stdout, 0), _first(process.stderr, 0))
                    await process.wait()


async def _first(stream: asyncio.StreamReader, at_most: int) -> bytes:
    """Return the first bytes. The rest is read and dropped, so that the writer can end."""
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk[: at_most - len(kept)]
    return bytes(kept)


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[name] for name in _PASSED_ON if name in given} | _ENVIRONMENT


def _failure(place: Path, said: str, sought: Sought | None) -> Unreadable:
    if any(file.stat().st_size >= MAX_FETCH_BYTES for file in place.glob("objects/pack/*")):
        return Unreadable(
            f"git would fetch more than {MAX_FETCH_BYTES >> 20} MiB: allow partial "
            "clones on the repository's server (uploadpack.allowFilter)",
            lasting=True,
        )
    return explained(said, sought)


def _error_line(text: bytes) -> str:
    """Return the first line with a known cause, else the first with "fatal", else the last line."""
    lines = [" ".join(line.split()) for line in text.decode("utf-8", "replace").splitlines()]
    known = [line for line in lines if any(words in line for words in KNOWN)]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (known or fatal or [line for line in lines[::-1] if line] or [""])[0][:500]

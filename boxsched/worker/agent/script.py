"""Make the bash script of a job, which shows each command before its output.

All commands form one script: a command may be part of a loop, a function or a here-document. So the
commands are divided into parts that are complete for bash; ``bash -n``, which runs nothing, checks
that. Code that shows a part is inserted before its first command, on the same line. So line numbers
in bash's messages, ``$?`` and ``set -e`` do not change. A command that reads more of the state
(``PIPESTATUS``, ``$_``) stays in one part with the command before it. After ``set -x`` nothing is
shown, because bash then does it.
"""

import functools
import re
import subprocess
from collections.abc import Iterator, Sequence

from boxsched.worker.agent.repository import JOB_PATH, program

MAX_CHECKS = 200  # limit for one script; the commands after the last check are shown together
MAX_CHECKED_BYTES = 256 << 10  # limit for one script, in all checks together
CHECK_SECONDS = 5.0
SCRIPTS_KEPT = 128  # a project's jobs run the same commands again and again

# Writes to standard error, as ``set -x`` does. Its ``return`` keeps ``$?`` for the next command;
# the ``&&`` after a call prevents ``set -e`` from ending the script at an old status.
_DEFINE = "__boxsched_show() { local status=$?; printf '%s\\n' \"$@\" >&2; return $status; }; "
_READS_STATE = re.compile(r"PIPESTATUS|BASH_COMMAND|\$\{?_(?![A-Za-z0-9_])")
_TRACES = re.compile(r"\bset\s+(-\w+\s+)*-(\w*[xv]|o\s+(xtrace|verbose))")


def script(commands: Sequence[str], *, show: bool) -> bytes:
    """Return the whole script. Raises UnicodeEncodeError."""
    if not show or not commands:
        return "".join(f"{command}\n" for command in commands).encode()
    return _shown(tuple(commands))


@functools.lru_cache(SCRIPTS_KEPT)
def _shown(commands: tuple[str, ...]) -> bytes:
    traced = next((n for n, one in enumerate(commands, 1) if _TRACES.search(one)), len(commands))
    lines = [_DEFINE] if commands else []
    for part in _parts(commands[:traced]):
        shown = [f"+ {line}" for one in part for line in one.rstrip("\n").split("\n")]
        lines.append(f"__boxsched_show {_quoted(shown)} && :; ")
        lines.extend(f"{command}\n" for command in part)
    lines.extend(f"{command}\n" for command in commands[traced:])
    return "".join(lines).encode()


def _parts(commands: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield sequences of commands that are complete for bash."""
    part: list[str] = []
    checks = size = 0
    for command, following in zip(commands, (*commands[1:], None), strict=True):
        part.append(command)
        if following is None:
            break
        if _READS_STATE.search(following) or checks == MAX_CHECKS or size > MAX_CHECKED_BYTES:
            continue
        text = "\n".join(part)
        checks += 1
        size += len(text)
        if _is_whole(text):
            yield part
            part = []
    if part:
        yield part


def _is_whole(text: str) -> bool:
    """Whether the text is complete for bash: it would run it before it reads the next line."""
    backslashes = len(text) - len(text.rstrip("\\"))
    if backslashes % 2:
        return False  # the next line belongs to this one
    try:
        done = subprocess.run(
            [program("bash"), "-n"],
            input=f"{text}\n".encode(),
            capture_output=True,
            env={"PATH": JOB_PATH, "LC_ALL": "C"},
            timeout=CHECK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    # An unfinished here-document is only a warning.
    return done.returncode == 0 and not done.stderr


def _quoted(lines: Sequence[str]) -> str:
    """Quote the lines as words, on one line, for any shell: an image may have no bash."""
    return " ".join("'" + line.replace("'", "'\\''") + "'" for line in lines)

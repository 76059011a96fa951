"""Install into the virtual environment whose Python runs this.

    python3 -m venv --without-pip .venv && .venv/bin/python .ci/install.py ARGUMENTS

ARGUMENTS are those of ``pip install``. If the environment has no pip, it gets one first: ``venv``
cannot always install it (Debian has it in a separate package), and the ``python3`` on the PATH may
belong to another environment without pip. Nothing outside the environment is changed.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator

HAS_PIP = [sys.executable, "-m", "pip", "--version"]


def main() -> int:
    if sys.prefix == sys.base_prefix:
        print("run this with a virtual environment's Python", file=sys.stderr)
        return 2
    if importlib.util.find_spec("pip") is None and not _bring_pip():
        print(
            "no pip was found: install your system's package (Debian: python3-pip), and try again",
            file=sys.stderr,
        )
        return 1
    return subprocess.call([sys.executable, "-m", "pip", "install", *sys.argv[1:]])


def _bring_pip() -> bool:
    said = [_failure(command) or _failure(HAS_PIP) for command in _ways()]
    if "" in said:
        return True
    print("".join(said), end="", file=sys.stderr)
    return False


def _ways() -> Iterator[list[str]]:
    """Yield commands that may install pip here, until one succeeds. Any pip can install into a
    target, however old it is, and also if the system manages its Python."""
    yield [sys.executable, "-m", "ensurepip"]
    options = ["--upgrade", "--target", sysconfig.get_path("purelib")]
    for python in (sys._base_executable, shutil.which("python3"), "/usr/bin/python3"):
        if python is not None and _failure(HAS_PIP):
            yield [python, "-m", "pip", "install", *options, "pip"]


def _failure(command: list[str]) -> str:
    """Return the error output of a failed command; "" if it succeeded."""
    environment = {**os.environ, "PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0"}
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    except OSError as error:
        return f"{command[0]}: {error.strerror}\n"
    return (ended.stderr or "it failed\n") if ended.returncode else ""


if __name__ == "__main__":
    sys.exit(main())

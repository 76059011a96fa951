"""The agent's end of the spawner."""

import os
import subprocess
import sys
from pathlib import Path

import boxsched
from boxsched.worker.folder import create, open_folder
from boxsched.worker.spawner import BOOT

_ROOT = str(Path(boxsched.__file__).resolve().parent.parent)
_CLOSE_SECONDS = 5.0


class Spawner:
    """Starts the warm process, and again whenever it has died.

    Requests may be lost with it: the agent asks again for what has not started.
    """

    def __init__(self, folder: str, descriptors: int) -> None:
        self._folder = folder
        self._descriptors = descriptors  # how many a job may have open, until it asks for more
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # Its environment can be read by every job: nothing of the service's is in it.
        environment = {"PATH": os.defpath}
        if "LD_LIBRARY_PATH" in os.environ:  # where the interpreter itself may need it
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        flags = ["-I", "-S", "-X", "utf8"]
        with open(self._complaints(), "wb") as complaints:
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-c", BOOT, _ROOT, self._folder, str(self._descriptors)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env=environment,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)

    def _complaints(self) -> int:
        at = open_folder(self._folder)
        try:
            return create(at, "spawner.log")
        finally:
            os.close(at)

    def ask(self, name: str) -> None:
        """Ask for a supervisor of the attempt ``name``; never blocks."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), f"{name}\n".encode())  # short: whole or not
        except (BlockingIOError, BrokenPipeError):
            return  # full, or just dying: asked again soon

    def close(self) -> None:
        """Supervisors go on."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(_CLOSE_SECONDS)
            self._process = None

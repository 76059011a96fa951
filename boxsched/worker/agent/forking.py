"""The agent's end of the spawner."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import boxsched
from boxsched.worker.supervisor import containment
from boxsched.worker.supervisor.safe_files import create, open_folder
from boxsched.worker.supervisor.spawner import BOOT

_ROOT = str(Path(boxsched.__file__).resolve().parent.parent)
_CLOSE_SECONDS = 5.0
_WORDS_BYTES = 65_536


class Spawner:
    """Starts the warm process, and again whenever it has died.

    Requests may be lost with it: the agent asks again for what has not started. ``ended`` is told
    how each supervisor ended: its attempt's name, and its status. ``died``: that it will be told
    nothing of those that were asked for so far.
    """

    def __init__(
        self,
        folder: str,
        descriptors: int,
        *,
        ended: Callable[[str, int], None],
        died: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._descriptors = descriptors  # how many a job may have open, until it asks for more
        self._ended = ended
        self._died = died
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._listens = False

    def start(self) -> None:
        """Blocking. To be followed by ``listen``."""
        # Its environment can be read by every job: nothing of the service's is in it.
        environment = {"PATH": os.defpath}
        if "LD_LIBRARY_PATH" in os.environ:  # where the interpreter itself may need it
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        flags = ["-I", "-S", "-X", "utf8"]
        with open(self._complaints(), "wb") as complaints:
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-c", BOOT, _ROOT, self._folder, str(self._descriptors)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=environment,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    def listen(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._loop.add_reader(self._process.stdout, self._hear)
        self._rest, self._listens = b"", True

    def ask(self, name: str) -> None:
        """Ask for a supervisor of the attempt ``name``; never blocks."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self.start()
            self.listen()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), f"{name}\n".encode())  # short: whole or not
        except (BlockingIOError, BrokenPipeError):
            return  # full, or just dying: asked again soon

    def thaw(self) -> None:
        """A job may have frozen the warm process: no other job would begin, or be seen to end."""
        if self._process is not None and containment.is_frozen(self._process.pid):
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Supervisors go on."""
        self._stop_listening()
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process.wait(_CLOSE_SECONDS)
            self._process = None

    def _complaints(self) -> int:
        at = open_folder(self._folder)
        try:
            return create(at, "spawner.log")
        finally:
            os.close(at)

    def _hear(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        try:
            words = os.read(self._process.stdout.fileno(), _WORDS_BYTES)
        except BlockingIOError:
            return
        if not words:
            self._stop_listening()
            return
        *lines, self._rest = (self._rest + words).split(b"\n")
        for line in lines:
            name, _, status = line.decode().rpartition(" ")
            self._ended(name, int(status))

    def _stop_listening(self) -> None:
        if self._listens:
            assert self._process is not None and self._process.stdout is not None
            self._loop.remove_reader(self._process.stdout)
            self._listens = False
            self._died()

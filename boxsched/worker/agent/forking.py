"""The agent's connection to the spawner process."""

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
    """Starts the spawner process, and starts it again when it has died.

    Requests are lost when it dies, so the agent repeats those whose attempts have not started.
    ``ended`` is called with each ended supervisor's attempt name and exit status. ``died`` is
    called when the process has died: ``ended`` will not be called for earlier requests.
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
        self._descriptors = descriptors  # a job's soft limit of open files
        self._ended = ended
        self._died = died
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._listens = False

    def start(self) -> None:
        """Start the process; call ``listen`` next. Blocking."""
        # Every job can read its environment, so it contains nothing of the service.
        environment = {"PATH": os.defpath}
        if "LD_LIBRARY_PATH" in os.environ:  # the interpreter may need it
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
        self._loop.add_reader(self._process.stdout, self._read_ends)
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
            os.write(self._process.stdin.fileno(), f"{name}\n".encode())  # short, so atomic
        except (BlockingIOError, BrokenPipeError):
            return  # the pipe is full or the process is dying; the agent asks again soon

    def thaw(self) -> None:
        """Continue the process if a job has stopped it; otherwise no job could begin or end."""
        if self._process is not None and containment.is_frozen(self._process.pid):
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Close the connection. Supervisors continue."""
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

    def _read_ends(self) -> None:
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

"""The spawner: a small, single-threaded process that forks supervisors. It inherits no descriptor.

It reads the names of attempts from standard input, one a line, and ends when that is closed. It
writes to standard output how each supervisor ended, ``NAME STATUS``: status 0 if it ended its job
itself, NOT_ITS_TURN if another supervisor has the attempt. It is run as ``python -I -S -X utf8 -c
BOOT ROOT FOLDER DESCRIPTORS``: without site-packages, without the environment.

It is a subreaper. When a job has killed its supervisor, the job's processes become children of the
spawner, even with another environment, session or cgroup. It kills them before it reports the end.
"""

import contextlib
import gc
import os
import select
import signal
import time

from boxsched.worker.supervisor import containment
from boxsched.worker.supervisor.descriptors import restore_limit
from boxsched.worker.supervisor.safe_files import open_folder
from boxsched.worker.supervisor.supervisor import supervise

BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from boxsched.worker.supervisor.spawner import main; main(sys.argv[2], int(sys.argv[3]))"
)
NOT_ITS_TURN = 3
KILL_SECONDS = 5.0  # how long to wait for processes that SIGKILL does not end
KILLED_LOOK_SECONDS = 0.02
NAMES_BYTES = 65_536


def main(folder: str, descriptors: int) -> None:
    restore_limit(descriptors)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with its agent, not with the terminal
    signal.signal(signal.SIGUSR1, _look)  # a signal for a supervisor must not kill the spawner
    containment.adopt_orphans("spawner")
    containment.hide_memory()
    gc.disable()
    gc.freeze()
    with contextlib.suppress(BrokenPipeError):  # the agent has died; supervisors continue
        Spawning(folder).run()


def _look(number: int, frame: object) -> None:
    """Do nothing: the wake-up pipe reports the signal."""


class Spawning:
    """Forks supervisors and collects them. ``supervisors``: the living ones by pid."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.site = open_folder(folder)
        self.supervisors: dict[int, str] = {}
        self.rest = b""
        self.alarm, self.alarm_in = os.pipe()
        for descriptor in (self.alarm, self.alarm_in):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self.alarm_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _look)
        self.poll = select.poll()
        self.poll.register(0, select.POLLIN)
        self.poll.register(self.alarm, select.POLLIN)

    def run(self) -> None:
        """Run until standard input is closed."""
        while True:
            ready = {descriptor for descriptor, _ in self.poll.poll()}
            if self.alarm in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.alarm, 4_096)
                self.report_ends()
            if 0 in ready:
                names = os.read(0, NAMES_BYTES)
                if not names:
                    return
                self.spawn(names)

    def spawn(self, names: bytes) -> None:
        *whole, self.rest = (self.rest + names).split(b"\n")
        for name in map(os.fsdecode, whole):
            if name in self.supervisors.values():
                continue  # a repeated request
            pid = os.fork()
            if pid == 0:
                _become_supervisor(self, name)
            self.supervisors[pid] = name

    def report_ends(self) -> None:
        """Report ended supervisors; first kill the remaining processes of those that failed."""
        ended = self.reap()
        if any(status not in (0, NOT_ITS_TURN) for _, status in ended):
            ended += self.kill_orphans()
        words = "".join(f"{name} {status}\n" for name, status in ended).encode()
        while words:
            words = words[os.write(1, words) :]

    def reap(self) -> list[tuple[str, int]]:
        """Return the ended supervisors with their statuses; negative: a signal."""
        ended = []
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                name = self.supervisors.pop(pid, None)
                if name is not None:
                    ended.append((name, os.waitstatus_to_exitcode(status)))
        return ended

    def kill_orphans(self) -> list[tuple[str, int]]:
        """Kill the children that are not supervisors: dead supervisors left them.

        A process that only removes the files of an ended job may be among them; then the agent
        removes these files. Return the supervisors that ended at the same time.
        """
        ended: list[tuple[str, int]] = []
        give_up = time.monotonic() + KILL_SECONDS
        while orphans := containment.unknown_children(os.getpid(), self.supervisors):
            containment.send(orphans, signal.SIGKILL)
            if time.monotonic() > give_up:
                break
            time.sleep(KILLED_LOOK_SECONDS)
            ended += self.reap()
        return ended


def _become_supervisor(spawning: Spawning, name: str) -> None:
    """Supervise the attempt and exit. The interpreter logs an unexpected exception."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)  # only the spawner may hold the agent's pipes open
    os.dup2(nothing, 1)
    for descriptor in (nothing, spawning.alarm, spawning.alarm_in):
        os.close(descriptor)
    gc.enable()
    try:
        mine = supervise(spawning.site, spawning.folder, name)
    except FileNotFoundError:
        mine = False  # its folder is gone
    os._exit(0 if mine else NOT_ITS_TURN)

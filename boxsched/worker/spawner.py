"""The warm process that forks supervisors: small, single-threaded, without any descriptor of ours.

Reads the names of attempts, one a line, from standard input; ends when that is closed. Run as
``python -I -S -X utf8 -c BOOT ROOT FOLDER DESCRIPTORS``: no site-packages, nothing of the
environment.
"""

import gc
import os
import signal

from boxsched.worker.descriptors import restore_limit
from boxsched.worker.folder import open_folder
from boxsched.worker.supervisor import supervise

BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from boxsched.worker.spawner import main; main(sys.argv[2], int(sys.argv[3]))"
)


def main(folder: str, descriptors: int) -> None:
    restore_limit(descriptors)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with its agent, not with the terminal
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for supervisors: no zombies
    signal.signal(signal.SIGUSR1, _look)  # a supervisor's "look for a stop" must never kill it
    gc.disable()
    gc.freeze()
    site = open_folder(folder)
    rest = b""
    while data := os.read(0, 65_536):
        *names, rest = (rest + data).split(b"\n")
        for name in names:
            if os.fork() == 0:
                _become_supervisor(site, folder, os.fsdecode(name))


def _look(number: int, frame: object) -> None:
    """The supervisor's wake-up pipe has said it already."""


def _become_supervisor(site: int, folder: str, name: str) -> None:
    """Never returns; a mistake of ours unwinds to the interpreter, which writes it to our log."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)  # else the agent's pipe would have a reader without a spawner
    os.dup2(nothing, 1)
    os.close(nothing)
    gc.enable()
    supervise(site, folder, name)
    os._exit(0)

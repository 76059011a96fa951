"""Try whether this machine enforces limits: ``python -I -S -c BOOT ROOT LIMITS``.

For each limit it makes a cgroup below those of the agent, puts a child into it that exceeds a small
limit, and looks whether that was prevented. Then it makes one with the limits that were asked for.
"""

import contextlib
import errno
import json
import os
import signal
import time
from collections.abc import Callable

from boxsched.worker.supervisor import containment, limits
from boxsched.worker.supervisor.limits import CPUS, MEMORY, PROCESSES, Limits

BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from boxsched.worker.supervisor.limit_probe import main; main(sys.argv[2])"
)
# The limits of the children, and what they try.
SMALL_PROCESSES = 2
SMALL = Limits(memory=64 << 20, cpus=0.01, processes=SMALL_PROCESSES)
ATTEMPT_BYTES = 4 << 20
ATTEMPTS = 64  # together four times the limit of memory
SPIN_SECONDS = 10.0
LONGEST_SECONDS = 60  # a child that exceeds its limit for so long is killed
REMOVE_SECONDS = 5.0

Problem = str | None


def main(text: str) -> None:
    """Print what is not enforced, as JSON: a text for each limit, {} if all is."""
    small, asked = (limits.read(one) for one in json.loads(text))
    problems = {}
    for name in _ATTEMPTS:
        if getattr(asked, name) is not None:
            problem = _why_not(name, small, asked)
            if problem is not None:
                problems[name] = problem
    print(json.dumps(problems))


def _why_not(name: str, small: Limits, asked: Limits) -> Problem:
    mine = [group for group in small.groups if any(one.limit == name for one in group.counters)]
    if not mine:
        return "there is no cgroup for it"
    probe = small._replace(groups=mine).below(f"boxsched-probe-{os.getpid()}-{name}")
    values = asked.below(f"boxsched-asked-{os.getpid()}-{name}")
    try:
        limits.make(probe)
        bites = _runs(_ATTEMPTS[name], probe)
        limits.make(values)  # are they accepted?
    except OSError as error:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    finally:
        _removed(probe)
        limits.remove(values.paths)
    return None if bites else "the kernel does not enforce it"


def _removed(probe: Limits) -> None:
    give_up = time.monotonic() + REMOVE_SECONDS
    while any(map(os.path.isdir, probe.paths)) and time.monotonic() < give_up:
        for path in probe.paths:
            for pid in limits.processes_in(path):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        limits.remove(probe.paths)
        time.sleep(0.001)


def _runs(attempt: Callable[[Limits], bool], probe: Limits) -> bool:
    """Run the attempt in a child in the cgroups; return whether it was prevented."""
    child = os.fork()
    if child == 0:
        try:
            containment.die_with_parent()
            signal.alarm(LONGEST_SECONDS)
            limits.enter(probe)
            prevented = attempt(probe)
            os._exit(0 if prevented else 1)
        except OSError as error:
            os.write(2, f"{error}\n".encode())
        finally:
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGKILL:
        return limits.times_reached(probe, MEMORY) > 0
    return status == 0


def _too_much_memory(probe: Limits) -> bool:
    kept = [bytearray(os.urandom(1) * ATTEMPT_BYTES) for _ in range(ATTEMPTS)]
    return len(kept) < ATTEMPTS  # never: it has been killed


def _too_many_processes(probe: Limits) -> bool:
    children = []
    try:
        for _ in range(SMALL_PROCESSES + 1):
            child = os.fork()
            if child == 0:
                containment.die_with_parent()
                signal.pause()
                os._exit(0)
            children.append(child)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return False


def _too_much_time(probe: Limits) -> bool:
    give_up = time.process_time() + SPIN_SECONDS
    while time.process_time() < give_up:
        if limits.times_reached(probe, CPUS):
            return True
    return False


_ATTEMPTS = {MEMORY: _too_much_memory, CPUS: _too_much_time, PROCESSES: _too_many_processes}

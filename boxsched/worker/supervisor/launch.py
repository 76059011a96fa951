"""Start one program of a job: fork, confine, exec. Imported by the spawner."""

import errno
import os
import signal
from collections.abc import Sequence

from boxsched.worker.supervisor import containment, isolation
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits

_UNCONTAINED = b"!"


def launch(
    argv: list[str],
    environment: dict[str, str],
    *,
    workspace: int,
    output: int,
    errors: int,
    cgroup: str | None,
    inherited: Sequence[int] = (),
    walls: isolation.Isolation | None = None,
    box: str = "",
    repository: str | None = None,
    limits: Limits = NO_LIMITS,
    paths: Sequence[str] = (),
    is_ours: bool = False,
) -> tuple[int, bool]:
    """Start the program; return its pid and whether it is in its cgroup.

    Returns after exec has succeeded; raises its OSError otherwise. Standard input is the
    supervisor's: /dev/null. ``workspace``: a folder's descriptor.
    ``inherited``: descriptors that the program gets too, under the same numbers. ``walls``,
    ``box``, ``repository``: the program is bubblewrap, for the Box and the repository with these
    paths. ``paths``: what else it mounts. ``is_ours``: the program runs the job's elsewhere, and
    confines that.
    """
    complaint, complaint_in = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if is_ours:
                containment.tie_to_parent()
            elif not containment.confine_self(cgroup, limits):
                os.write(complaint_in, _UNCONTAINED)
            for descriptor in inherited:
                os.set_inheritable(descriptor, True)
            os.fchdir(workspace)
            if walls is not None:
                isolation.change_user(walls, box, paths, repository)
                containment.die_with_parent()  # to change the user undoes it
            _become(argv, environment, output, errors)
        except OSError as error:
            os.write(complaint_in, b"%d" % (error.errno or errno.EIO))
        except ValueError:
            os.write(complaint_in, b"%d" % errno.EINVAL)
        finally:
            os._exit(127)
    os.close(complaint_in)  # exec closes the child's end: then the pipe ends without an error
    said = b""
    while part := os.read(complaint, 16):
        said += part
    os.close(complaint)
    refusal = said.removeprefix(_UNCONTAINED)
    if refusal:
        os.waitpid(child, 0)
        raise OSError(int(refusal), os.strerror(int(refusal)))
    return child, said == b""


def _become(argv: list[str], environment: dict[str, str], output: int, errors: int) -> None:
    """Replace this process by the program. Exec closes every other descriptor."""
    signal.set_wakeup_fd(-1)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.umask(0o022)
    os.execve(argv[0], argv, environment)  # noqa: S606 -- a list of arguments, no shell

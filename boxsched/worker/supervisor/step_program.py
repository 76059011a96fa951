"""Compose how the program of a step is started: its arguments, environment and descriptors.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from boxsched.git_access import lent
from boxsched.worker.supervisor import container as podman
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import isolation, job_secrets
from boxsched.worker.supervisor.container import Container
from boxsched.worker.supervisor.folder import Record, Step
from boxsched.worker.supervisor.isolation import Isolation, Monitor
from boxsched.worker.supervisor.job_secrets import JobSecrets
from boxsched.worker.supervisor.session import Door, servers_own

_MARKED = {"BOXSCHED_JOB", "BOXSCHED_ATTEMPT"}


class Surroundings(NamedTuple):
    """Where a step runs. ``folder``: the path of the attempt's folder; ``at``, ``box``: descriptors
    of it and of the Box. ``seconds``: until the time limit.
    """

    record: Record
    folder: str
    at: int
    box: int
    walls: Isolation | None
    container: Container | None
    secrets: JobSecrets | None
    commit: str | None
    seconds: float

    @property
    def box_path(self) -> str:
        return f"{self.folder}/{files.BOX}"


class StepProgram:
    """What ``launch`` needs. ``opened`` closes what only the program itself keeps open.

    ``monitor``: of a program in bubblewrap. ``door``: of a session's server. Raises OSError.
    """

    def __init__(self, step: Step, around: Surroundings, opened: contextlib.ExitStack) -> None:
        self.monitor: Monitor | None = None
        self.door: Door | None = None
        self.inherited: list[int] = []
        self.paths: Sequence[str] = ()
        self._covers: Sequence[str] = ()
        self._around = around
        self._opened = opened
        self._walls = around.walls or isolation.NO_WALLS
        self.argv = step.argv
        self.environment = dict(step.environment)
        if not step.alone:
            self.environment = around.record.environment | self.environment
        self._add_commit(step)
        configured = self._lend(step)
        if step.is_script:
            self._add_secrets()
            self._add_session()
        if around.container is not None:
            self._enter_container(around.container)
        elif around.walls is not None:
            self._enter_walls(around.walls, configured, step)
            return
        self.environment |= configured

    def _add_commit(self, step: Step) -> None:
        commit = self._around.commit
        if commit is not None:
            self.environment["BOXSCHED_COMMIT"] = commit
            if step.takes_commit:
                self.argv = [*self.argv, commit]

    def _lend(self, step: Step) -> dict[str, str]:
        """Open the project's credentials for git; return the variables that name them."""
        secrets = self._around.secrets
        access = secrets.access if secrets is not None and step.is_lent else None
        descriptor, configured = self._opened.enter_context(lent(access, self._walls.give))
        if descriptor is not None:
            self.inherited.append(descriptor)
        return dict(configured)

    def _add_secrets(self) -> None:
        around = self._around
        if around.secrets is None:
            return
        self.environment |= around.secrets.variables
        seen = isolation.BOX if around.walls is not None else around.box_path
        self.environment |= job_secrets.write_files(
            around.box, seen, around.secrets, self._walls.give
        )

    def _add_session(self) -> None:
        """A session's server runs in place of the script."""
        record = self._around.record
        if record.session is None:
            return
        self.door = Door(self._around.at, record.session)
        self._opened.callback(self.door.close)
        environment, self.environment = self.environment, servers_own(self.environment)
        limit = record.timeout_seconds
        theirs = self.door.inherited(environment, limit, self._around.seconds)
        self.inherited += theirs
        self.argv = [*self.argv, str(theirs[0])]
        self.paths, self._covers = self._walls.server, self._walls.server_late

    def _enter_container(self, container: Container) -> None:
        around, names = self._around, job_secrets.FILES_FOLDER
        podman.write_variables(around.box, names, self.environment)
        self.argv = podman.command(container, around.box_path, names)
        self.environment = container.environment | _marks(around)

    def _enter_walls(self, walls: Isolation, configured: dict[str, str], step: Step) -> None:
        """The program gets its variables from bubblewrap, which itself has only the marks."""
        around, self.monitor = self._around, Monitor()
        self._opened.callback(self.monitor.close_status)
        file = isolation.options(
            walls,
            around.box_path,
            self.monitor.status,
            job_secrets.FILES_FOLDER,
            self.environment | configured,
            self.paths,
            self._covers,
            step.reads,
        )
        self._opened.callback(os.close, file)
        self.inherited += [self.monitor.status, file]
        self.argv = isolation.command(walls, file, self.argv)
        self.environment = _marks(around)


def _marks(around: Surroundings) -> dict[str, str]:
    """Return the environment by which the processes of bubblewrap and podman are found."""
    its = around.record.environment
    kept = {name: value for name, value in its.items() if name in _MARKED}
    return {**kept, isolation.MARK: around.folder}

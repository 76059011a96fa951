"""Supervise one job: run its steps; end it at a stop, at the time limit or when its lease ends.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Collection

from boxsched.worker.supervisor import container as podman
from boxsched.worker.supervisor import (
    containment,
    isolation,
    job_secrets,
    limits,
    packs,
    safe_files,
    trouble,
    verdict,
)
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.container import Container
from boxsched.worker.supervisor.disk_watch import DiskWatch
from boxsched.worker.supervisor.folder import Ended, Found, Opened, Record, Running, Step
from boxsched.worker.supervisor.isolation import Monitor, NotIsolated
from boxsched.worker.supervisor.job_secrets import JobSecrets
from boxsched.worker.supervisor.last_heartbeat import Deadline
from boxsched.worker.supervisor.last_heartbeat import boottime as _clock
from boxsched.worker.supervisor.launch import launch
from boxsched.worker.supervisor.machine_watch import MachineWatch
from boxsched.worker.supervisor.output import Output
from boxsched.worker.supervisor.session import Door
from boxsched.worker.supervisor.step_program import StepProgram, Surroundings
from boxsched.worker.supervisor.unpacking import Unpacking
from boxsched.worker.supervisor.verdict import (
    DISK_FULL,
    LOST,
    OVER_DISK,
    STOPPED,
    TIMED_OUT,
    Verdict,
)

STOP_LOOK_SECONDS = 1.0  # between two looks for a stop and for the end of the lease
LOOK_FOR_COMMIT_SECONDS = 0.05  # between two looks for the commit: the job waits only for that
KILL_AGAIN_SECONDS = 0.2
LONGEST_PROBLEM = 200  # characters
SIGNALLED = 128  # an exit status above it stands for a signal
GIVE_UP_SECONDS = 10.0  # how long to wait for processes that SIGKILL does not end


class Supervision:
    """Runs one job; ``run`` lists what happens in order."""

    def __init__(
        self, site: int, at: int, folder: str, record: Record, secret: JobSecrets | None
    ) -> None:
        self.site = site
        self.at = at
        self.folder = folder
        self.workspace = self.box = -1
        self.record = record
        self.secrets = secret  # None: the file is gone
        self.cgroup = record.cgroup
        self.walls = record.isolation
        self.container: Container | None = None  # of the current step
        self.limits = record.limits
        self.disk: DiskWatch | None = None
        self.monitor: Monitor | None = None  # of the current step, if it is isolated
        self.deadline = Deadline(site, record)
        self.end_by = _clock() + record.timeout_seconds
        self.kill_by = self.look_by = float("inf")
        self.cause: str | None = None
        self.began_at: float | None = None
        self.began = 0.0  # the same moment, by a clock that cannot be set
        self.commit: str | None = None
        self.child = 0
        # the current step's status, when it has ended; negative: a signal
        self.status: int | None = None
        self.childless = True
        self.door: Door | None = None  # of a session whose server runs
        self.killed = False
        self.script_began = False

        self.output = Output(at, record.log_limit, (secret or job_secrets.NO_SECRETS).masks)
        self.output.keep_tail(trouble.TAIL_BYTES)  # git's messages when it fails
        self.machine = MachineWatch(self.at)
        self.alarm, alarm_in = os.pipe()
        for descriptor in (self.alarm, alarm_in):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(alarm_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.poll = select.poll()
        self.poll.register(self.output.pipe, select.POLLIN)
        self.poll.register(self.alarm, select.POLLIN)

    def run(self) -> Ended:
        containment.adopt_orphans(containment.title(os.path.basename(self.folder)))
        if self.cgroup is not None and not containment.make_cgroup(self.cgroup):
            self.cgroup = None
        ended = self._run_steps()
        self._end_tree()
        if self.container is not None:
            podman.give_back(self.container, f"{self.folder}/{files.BOX}")
            if not self._is_removed(self.container):
                podman.remove(self.container)
        if self.box >= 0:
            with contextlib.suppress(OSError):  # the whole box is removed later
                safe_files.remove_tree(self.box, job_secrets.FILES_FOLDER)
        self.output.drain()
        self.output.finish()
        if self.cgroup is not None:
            containment.remove_cgroup(self.cgroup)
        limits.remove(self.limits.paths)
        if self.cause not in (None, DISK_FULL) or not self.output.disk_full:
            return ended
        return self._failed(DISK_FULL) if self.script_began else self._not_begun(DISK_FULL)

    # --- Steps ------------------------------------------------------------------------------

    def _run_steps(self) -> Ended:
        """Run the steps in order. The first one that fails or is ended decides the result."""
        if self.secrets is None:
            return self._not_begun(job_secrets.GONE)
        try:
            limits.make(self.limits)
        except OSError as error:
            return self._not_begun(trouble.described(error, "cannot limit jobs"))
        try:
            self._make_box()
        except OSError as error:
            return self._not_begun(trouble.described(error, "cannot make the workspace"))
        for step in self.record.steps:
            self._look()
            if self.cause is not None:
                return self._verdict(None)
            if step.takes_commit and self.commit is None:
                continue  # an empty repository
            if step.is_script and (ended := self._unpack()) is not None:
                return ended
            try:
                status = self._find_commit(step) if step.says_commit else self._run_step(step)
            except NotIsolated as problem:
                if step.is_script and (self.record.image or self.record.container):
                    return self._failed(f"cannot start the image: {problem}")
                return self._not_begun(str(problem))
            except OSError as error:
                return self._not_started(step, error)
            if step.is_script:
                return self._verdict(status)
            if self.cause is not None:
                return self._verdict(None)
            if status != 0 and not step.may_fail:
                return self._git_failed(step, status)
        return self._verdict(0)

    def _make_box(self) -> None:
        os.mkdir(files.BOX, 0o700, dir_fd=self.at)
        self.box = safe_files.open_folder(files.BOX, self.at)
        for path in (files.WORKSPACE, files.HOME, files.TMP):
            os.mkdir(os.path.basename(path), 0o700, dir_fd=self.box)
        self.workspace = safe_files.open_folder(os.path.basename(files.WORKSPACE), self.box)
        if self.walls is not None:
            isolation.furnish(self.walls, self.at, self.box)
            self.walls.give(self.output.job_end)  # for jobs that open /dev/stderr
        if self.limits.disk is not None:
            self.disk = DiskWatch(self.limits.disk, self.box, _clock())

    def _unpack(self) -> Ended | None:
        """Put what the job is given into its workspace; return how it ends if that fails."""
        unpacking = Unpacking(self.at, self.workspace, self.walls, self.output.note, self._goes_on)
        try:
            unpacking.run()
        except (packs.BadPack, packs.InTheWay) as error:
            return self._failed(f"the artifacts of its build cannot be put in place: {error}")
        except OSError as error:
            return self._not_begun(trouble.described(error, "cannot put files into the workspace"))
        return None if self.cause is None else self._verdict(None)

    def _goes_on(self) -> bool:
        self._look()
        if _clock() >= self.end_by and self.cause is None:
            self._end(TIMED_OUT, self.record.stop_grace)
        return self.cause is None

    def _not_started(self, step: Step, error: OSError) -> Ended:
        why = trouble.described(error, f"cannot start {step.what}")
        if not trouble.lies_with_worker(error):
            return self._failed(why)
        program = step.argv[0] if self.walls is None else self.walls.arguments[0]
        return self._not_begun(trouble.missing(program) or why)

    def _git_failed(self, step: Step, status: int) -> Ended:
        """Return how the job ended after a failed git step; the worker may be the cause."""
        self.output.drain()
        if reached := limits.reached(self.limits, status):
            self.output.note(f"{step.what} has reached the {reached[0]}")
            return self._failed(f"{step.what}: {reached[0]}")
        problem = trouble.of_git(step.what, status, self.output.tail or b"", self.machine)
        if problem is not None:
            return self._not_begun(problem)
        failed = f"{step.what} failed with {verdict.ending(status)}"
        return self._failed(step.refusal or failed)

    def _find_commit(self, step: Step) -> int:
        """Run the step with its output in a file. No command of the job has run before."""
        output = safe_files.create(self.at, files.COMMIT)
        try:
            status = self._run_step(step, output)
        finally:
            os.close(output)
        found = verdict.commit(self.at, files.COMMIT) if status == 0 else None
        self.commit = found and self._agreed(found)
        return status

    def _agreed(self, found: str) -> str | None:
        """Return the commit that all jobs of the workload run: the first that was found.

        The agent asks the store for it. None if the job is ended before the answer arrives.
        """
        if found == self.record.environment.get("BOXSCHED_COMMIT"):
            return found
        reserved = files.FOUND + files.RESERVED
        if not safe_files.exists(self.at, reserved):  # an earlier version prepared the attempt
            return found
        files.put(self.at, reserved, files.FOUND, Found(found))
        files.ring(self.site)
        self.status = None
        while self.cause is None:
            fixed = verdict.commit(self.at, files.FIXED)
            if fixed is not None:
                return fixed
            self.look_by = _clock() + LOOK_FOR_COMMIT_SECONDS
            self._turn()
        return None

    def _run_step(self, step: Step, output: int | None = None) -> int:
        self.status, self.childless = None, False
        if step.is_script:
            self.walls = self.record.image or self.walls
            self.container = self.record.container
        if not step.is_script:
            self.machine.begin(_clock())
        self._start(step, output)
        self.look_by = _clock() + STOP_LOOK_SECONDS
        while self.status is None or self._in_grace():
            self._turn()
        self.machine.end()
        if self.container is not None and self.status == podman.FAILED and self.cause is None:
            self._check_container()
        return self.status if self.monitor is None else self._inner_status(self.monitor, step)

    def _start(self, step: Step, output: int | None) -> None:
        """Start the step's program. Raises OSError."""
        around = Surroundings(
            self.record,
            self.folder,
            self.at,
            self.box,
            self.walls,
            self.container,
            self.secrets,
            self.commit,
            self.end_by - _clock(),
        )
        with contextlib.ExitStack() as opened:
            program = StepProgram(step, around, opened)
            self.monitor = program.monitor
            self.child, contained = launch(
                program.argv,
                program.environment,
                workspace=self.workspace,
                output=self.output.job_end if output is None else output,
                errors=self.output.job_end,
                cgroup=self.cgroup,
                inherited=program.inherited,
                walls=self.walls if self.container is None else None,
                box=around.box_path,
                is_ours=self.container is not None,
                repository=step.reads,
                limits=self.limits,
                paths=program.paths,
            )
        if self.monitor is not None:
            self.monitor.pid = self.child
        if step.is_script:
            self.script_began = True
            self.door = program.door
            if self.door is not None:
                self.poll.register(self.door.announced, select.POLLIN)
            if self.monitor is None and self.container is None:
                self.output.keep_tail(0)
        if self.began_at is None:
            self.began_at, self.began = time.time(), _clock()
            running = Running(self.began_at, contained)
            files.put(self.at, files.RUNNING + files.RESERVED, files.RUNNING, running)
            files.ring(self.site)

    def _note_opened(self, door: Door) -> None:
        """The server of the session says its host key: write how the session is reached."""
        self.poll.unregister(door.announced)
        self.door = None
        if (key := door.host_key()) is not None:
            opened = Opened(key, door.port)
            files.put(self.at, files.OPENED + files.RESERVED, files.OPENED, opened)
            files.ring(self.site)

    def _is_removed(self, container: Container) -> bool:
        """Whether podman has ended as usual, and so has removed the container. Another podman that
        removes it takes as long as the start of one.
        """
        as_usual = self.status is not None and 0 <= self.status != podman.FAILED
        self.output.drain()
        complains = podman.COMPLAINS in (self.output.tail or b"")
        return container.goes and as_usual and self.cause is None and not complains

    def _check_container(self) -> None:
        """Raise NotIsolated if podman could not start the container. A script may end alike."""
        self.output.drain()
        said = (self.output.tail or b"").rstrip().rpartition(b"\n")[2].decode(errors="replace")
        if said.startswith("Error: "):
            raise NotIsolated(said.removeprefix("Error: ")[:LONGEST_PROBLEM])

    def _inner_status(self, monitor: Monitor, step: Step) -> int:
        """Return the program's status from bubblewrap's. Raises NotIsolated."""
        assert self.status is not None
        self.monitor = None
        failed = self.cause is None and self.status > 0 and monitor.has_failed()
        if monitor.inner >= 0:
            self.poll.unregister(monitor.inner)
        monitor.close()
        if failed:
            self.output.drain()
            said = (self.output.tail or b"").rstrip().rpartition(b"\n")[2]
            if said.endswith(os.strerror(errno.E2BIG).encode()):
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            raise NotIsolated(f"cannot isolate jobs: {said.decode(errors='replace')}")
        # It passes a signal on as a shell does. A script's status may come from its last command.
        is_signal = self.status > SIGNALLED and not step.is_script
        return SIGNALLED - self.status if is_signal else self.status

    def _in_grace(self) -> bool:
        """Whether the job's processes may still use their grace, even if the first one ended."""
        return self.cause in (STOPPED, TIMED_OUT) and not self.childless and not self.killed

    # --- One turn of waiting ----------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for output, the end of a process, a signal or a deadline, and act on it."""
        measure_at = float("inf") if self.disk is None else self.disk.next_at
        next_at = min(self.end_by, self.kill_by, self.look_by, measure_at, self.machine.next_at)
        wait = max(0.0, next_at - _clock())
        ready = {descriptor for descriptor, _ in self.poll.poll(wait * 1_000 + 1)}
        if self.output.pipe in ready:
            self.output.read()
        if self.door is not None and self.door.announced in ready:
            self._note_opened(self.door)
        if self.monitor is not None and self.monitor.inner in ready and self.status is None:
            self.poll.unregister(self.monitor.inner)
            self.monitor.let_go()
        now = _clock()
        if now >= self.machine.next_at:
            self.machine.look(now)
        if self.output.disk_full and self.cause is None:
            self.cause, self.kill_by = DISK_FULL, now
        if self.disk is not None and self.cause is None:
            self._measure(self.disk, ready, now)
        if self.alarm in ready or now >= self.look_by:
            self.look_by = now + STOP_LOOK_SECONDS
            self._reap()
            # A step that has ended by itself keeps its result.
            if self.status is None or self._in_grace():
                self._look()
        if now >= self.end_by:
            self.end_by = float("inf")
            if self.cause is None and self.status is None:
                self._end(TIMED_OUT, self.record.stop_grace)
            elif self.cause is not None:  # the job can write a stop with a long grace itself
                self.kill_by = min(self.kill_by, now + self.record.stop_grace)
        if now >= self.kill_by:
            self._kill()
            self.kill_by = now + KILL_AGAIN_SECONDS

    def _measure(self, disk: DiskWatch, ready: Collection[int], now: float) -> None:
        """End the job at once if its Box takes more disk than it may."""
        if disk.pipe in ready:
            self.poll.unregister(disk.pipe)
            if disk.is_exceeded(now):
                self._end(OVER_DISK, 0.0)
        elif now >= disk.next_at:
            with contextlib.suppress(OSError):  # no descriptor or process is left; tries again
                disk.begin(now)
                self.poll.register(disk.pipe, select.POLLIN)

    def _reap(self) -> None:
        """Collect all ended children: the step's process and adopted orphans."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.alarm, 4_096)
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.child:
                    self.status = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            self.childless = True

    def _look(self) -> None:
        """End the job if its lease has run out or a stop was asked for."""
        now = _clock()
        if self.cause != DISK_FULL and not self.killed and self.deadline.passed(now):
            if self.cause is None:
                self._end(LOST, 0.0)
            self.kill_by = now
        if self.cause is not None:
            return
        grace = verdict.grace(self.at)
        if grace is not None:
            self._end(STOPPED, grace)

    # --- The end ----------------------------------------------------------------------------

    def _end(self, cause: str, grace: float) -> None:
        """Send SIGTERM now and SIGKILL after the grace; write the reason into the log."""
        self.cause, self.kill_by = cause, _clock() + grace
        limit, lost_after = self.record.timeout_seconds, self.deadline.lost_after
        stopped = verdict.why_stopped(self.at) if cause == STOPPED else None
        if cause == OVER_DISK:
            self.output.note(f"{limits.disk_text(self.limits)} exceeded, so the job is ended")
        else:
            self.output.note(verdict.ended_by(cause, limit, lost_after, stopped))
        if grace > 0:
            self._hold_monitor()
            self._signal(signal.SIGTERM)

    def _hold_monitor(self) -> None:
        """Keep the job's processes together for the grace, even if the first one ends."""
        if self.monitor is not None and self.status is None and self.monitor.hold():
            self.poll.register(self.monitor.inner, select.POLLIN)

    def _kill(self) -> None:
        self.killed = True
        if self.cgroup is not None:
            containment.kill_cgroup(self.cgroup)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        held = self.monitor.pid if self.monitor is not None and self.monitor.inner >= 0 else 0
        with contextlib.suppress(OSError):  # no descriptor is left; ``_kill`` is called again
            pids = containment.descendants(os.getpid())
            if number != signal.SIGKILL:
                pids = [pid for pid in pids if pid != held]
                pids = pids if self.container is None else podman.inside(pids)
            containment.send(pids, number)

    def _end_tree(self) -> None:
        """Kill the remaining processes of the job and wait until they are gone."""
        give_up = _clock() + GIVE_UP_SECONDS
        self._reap()
        while not self.childless and _clock() < give_up:
            self._kill()
            self.output.read()
            self.poll.poll(KILL_AGAIN_SECONDS * 1_000)
            self._reap()
        if not self.childless:
            self.output.note("some processes of this job could not be killed")

    def _verdict(self, status: int | None) -> Ended:
        limit, lost_after = self.record.timeout_seconds, self.deadline.lost_after
        session = self.script_began and self.record.session is not None
        said = verdict.judge(self.cause, status, limit, lost_after, session=session)
        reached = limits.reached(self.limits, status)
        may_be_memory = self.container is not None and self.limits.memory and status
        if may_be_memory and self.container and podman.ran_out_of_memory(self.container):
            reached = [limits.memory_text(self.limits)]
        if self.cause == OVER_DISK:
            reached = [limits.disk_text(self.limits)]
        else:
            for text in reached:
                self.output.note(f"it has reached the {text}")
        if may_be_memory and not reached and status == podman.KILLED and self.cause is None:
            perhaps = f"{said.reason}, perhaps at the {limits.memory_text(self.limits)}"
            said = said._replace(reason=perhaps)
        return self._ended(verdict.at_limits(said, reached))

    def _failed(self, reason: str) -> Ended:
        return self._ended(Verdict("failed", reason))

    def _not_begun(self, problem: str) -> Ended:
        return self._ended(Verdict("failed", problem, not_begun=True))

    def _ended(self, said: Verdict) -> Ended:
        """Return the end. Like the time limit, the duration includes sleep of the machine."""
        began_at = self.began_at
        seconds = None if began_at is None else _clock() - self.began
        at = time.time() if began_at is None or seconds is None else began_at + seconds
        return Ended(
            said.result,
            said.exit_status,
            said.signal,
            said.timed_out,
            said.reason,
            began_at,
            at,
            self.commit,
            said.lost,
            seconds,
            said.not_begun,
        )

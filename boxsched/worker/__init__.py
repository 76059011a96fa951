"""How a worker runs jobs, and how a job survives the end of the worker's process.

The package has four parts: ``supervisor`` (standard library only), ``agent``, ``remote`` (the
connection of a worker that runs on a separate machine), and ``session`` (the server of an SSH
session).

Three kinds of processes work together. Each may die at any moment::

    agent (in the service, or in ``boxsched worker``)   decides what to start and stop, reports
      | writes one attempt name a line into a pipe
    spawner (small, single-threaded, forks)             `supervisor/spawner.py`
      | fork, new session
    supervisor, one for each job                        `supervisor/supervisor.py`
      | fork, exec
    git, then ``bash -e SCRIPT``                        the job: a tree of processes

``boxsched worker`` is an agent with a connection to a node: see ``remote/worker.py``.

Agent and supervisor share nothing but files, in one folder for each attempt
(``supervisor/folder.py``). So each of them can die and be replaced without the other.

======== ================ =======================================================================
file     written by       meaning
======== ================ =======================================================================
record   agent            what to run; complete and durable before anything is started
lock     agent, empty     the supervisor holds a flock on it for as long as it lives
ticket   agent, blank     exists once; the process that holds the lock and renames it decides
                          whether the attempt starts
started  supervisor       the renamed ``ticket``: this process has started the attempt
void     agent            the renamed ``ticket``: the attempt never starts
running  supervisor       the first step of the job has begun, and when
found    supervisor       the commit that the supervisor looked up
fixed    agent            the commit to run: the first that a job of the workload found
opened   supervisor       how an SSH session is reached
ssh      supervisor       the socket of an SSH session's server, for the agent
stop     agent            end the job; holds the grace in seconds
why      agent            who stops the job and why, for its log
log      supervisor       the output, limited in size
sent     agent            which part of the log is in the store, or on its way there
result   supervisor       how the attempt ended; durable (written by the agent for a lost or
                          void attempt)
======== ================ =======================================================================

``ticket``, ``sent`` and all files that are written later take their disk space in advance
(``folder.reserve``): a full disk can fail a job, but cannot lose its result.

**Exactly once.** An attempt is started by renaming ``ticket`` under the lock. So a repeated or late
request to the spawner, or a request from an agent that has died since, starts nothing twice.

**Adoption.** A new agent reads each attempt's folder:

- The lock is held: the supervisor lives. The agent continues the log behind ``sent``.
- The lock is free and ``ticket`` exists: the attempt never started. It is started if it is still
  desired.
- The lock is free without ``ticket``, or the record is from another boot of the machine: the
  supervisor has ended. The agent kills what is left of its job. Then the result counts; without a
  result the job is lost.
- The record does not match its checksum, or names another job: the agent ends the job and keeps its
  folder in ``quarantine``.
- There is no folder for an attempt that has begun according to the store: the agent kills what is
  left of it and reports it as lost. It never begins again.

**A result counts only after the job has ended.** A job runs as the same user as the worker, so it
can write ``result`` itself. So the agent trusts no file in the folder while the supervisor lives.
The spawner, the parent of the supervisor, tells the agent its exit status. Status 0 means that the
supervisor ended the job and wrote the result. With any other status the job is lost, whatever
``result`` says. The spawner is a subreaper: when a job kills its supervisor, the job's remaining
processes become children of the spawner, which kills them before it reports the end. A supervisor
that was started by an earlier agent has ended when the lock is free and no process has its name.

**What a job may do to its folder.** The agent never blocks on anything in the folder and does not
trust its content. It opens its own folder and each attempt's folder once, and names them by
descriptors. It opens the files in them without following links and without blocking, and reads them
up to a limit. If a file is missing or was replaced, this one job is lost. When descriptors or disk
space run out, the agent tries again at its next look. The agent raises its own limit of open files;
its jobs keep the original limit.

**Problems of the worker.** Sometimes a job's commands never begin because of the worker: a full
disk, no git, no memory. This is not the build's failure. The report says ``not_begun``, and the job
goes to another worker. The agent first tells the nodes, which assign no more jobs to this worker
until it finds that jobs can begin again (``agent/readiness.py``).

**Ghosts.** An attempt that the worker's level does not contain is not its attempt any more. One of
a build is ended. One of a deploy or a session is parked: it continues, nothing of it is sent, and
its result stays here until a person decides (``agent/ghosts.py``, ``protocol/ghosts.py``).

**Lost.** A build's job ends with its worker's lease, so that another worker may run a new attempt.
The supervisor reads when the last answered heartbeat was sent, from the file ``heard`` in the
agent's folder (``supervisor/last_heartbeat.py``). This works even if the agent is dead, stopped or
disconnected. A deploy continues without a lease. So does every job on the in-process worker of a
single node.

**One commit.** All jobs and attempts of a workload run the commit that the first of them found.
After the clone the supervisor looks up the branch, tag or hash (``agent/repository.py``) and writes
``found``, unless the assignment already has the whole hash. The agent asks the store
(``Store.fix_commit``; ``boxsched worker`` asks its node with ``wire.Found``). One guarded statement
sets the workload's commit if it has none, and returns the commit that the workload has. The agent
writes it into ``fixed``. Only then the supervisor checks out this commit and begins the commands.
Each side may die in between, because a repeated request gets the same answer. A request under an
old lease gets none.

**Credentials of git.** A project's token or key reaches the supervisor as secrets do
(``supervisor/job_secrets.py``). The supervisor passes it to single git steps, in a file in memory
that git inherits (``boxsched/git_access.py``). The git steps of such a job do not get the job's own
environment, because a variable such as GIT_TRACE_CURL or GIT_SSH_COMMAND could show the
credentials. Commits of a fork are fetched with them. The check-out and the submodules of a fork get
none, because the fork's author chooses the URLs of the submodules.

**Times.** The supervisor measures durations by CLOCK_BOOTTIME, which cannot be set and continues
while the machine sleeps. It writes the duration in seconds into the result. The time limit uses the
same clock. At the time limit the job is ended as by a stop: SIGTERM, the grace, SIGKILL. The times
at which a job began and ended are those of the engine's clock.

**Reports.** The agent reports an attempt's end only when the whole log is in the store. It removes
the folder only when the report is durable and the attempt is not desired any more.

**Finding all processes of a job.** A job has its own cgroup if cgroup v2 is writable. In any case
the supervisor is a child subreaper: it finds and kills all descendants, detached ones too, at the
end, at a stop and at the time limit. With the driver ``process`` a job runs as the user of the
service. This keeps jobs apart from each other; it does not protect the service from a hostile job.

**SSH sessions.** The last step of a session is its server (``session``) in place of a script. The
supervisor makes its sockets and passes them on (``supervisor/session.py``). The server says its
host key; the supervisor writes it into ``opened``; the agent reports it, and only then that the job
began (``Store.open_ssh_session``; ``wire.Opened``). For a user who connects through a node, the
worker opens a WebSocket, and the agent connects it to the socket ``ssh`` (``wire.Dial``,
``remote/tunnels.py``). So heartbeats and reports do not wait for a session's bytes.

**Isolation.** With the driver ``bubblewrap`` each step of a job runs inside bubblewrap
(``supervisor/isolation.py``, ``agent/bubblewrap.py``). It sees of the attempt's folder only parts
of ``box``: so nothing that agent and supervisor write or follow can be changed by the job. Its
processes have a PID namespace, which the kernel ends with bubblewrap, and bubblewrap with the
supervisor. At a stop, the supervisor stops bubblewrap's outermost process until all others have
ended, so that all of them have their grace. The record says how an attempt is isolated; so an
agent with another driver adopts it. A Box that bubblewrap cannot make is a problem of the worker.
A repository on the worker's disk is shown to the git steps that fetch, which then run without the
job's own variables (``agent/local_repository.py``).

**Images.** The script of a job with an image sees the system of a folder (``agent/images.py``), or
runs in a container of podman (``agent/podman.py``, ``supervisor/container.py``), which runs as a
child of the supervisor. A container is found by its name, and removed by the supervisor or, for a
dead supervisor, by the agent.

**Limits.** A job's memory, processors and processes are limited by cgroups, v2 or v1
(``agent/limiting.py``, ``supervisor/limits.py``). The agent makes sure at its start that the kernel
enforces them. The supervisor makes the job's cgroups, and removes them when the job has ended; for
a dead supervisor, the agent does. The supervisor measures the disk that the Box takes, and ends a
job that takes too much (``supervisor/disk_watch.py``).
"""

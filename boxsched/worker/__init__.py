"""How a worker runs jobs, and how a job outlives the worker.

Three rooms: ``supervisor`` (standard library only), ``agent``, and ``remote``, the connection of a
worker of its own.

Three kinds of processes, each of which may die at any moment::

    agent (in the service, or a worker of its own)      decides what to start and stop, reports
      | one name a line, through a pipe
    spawner (small, single-threaded, forks)             `spawner.py`
      | fork, a session of its own
    supervisor, one a job                               `supervisor.py`
      | fork, exec
    git, then ``bash -e SCRIPT``                        the job: a tree of processes

A worker of its own (``remote/worker.py``) is an agent with a connection to a node; see there.

Between agent and supervisor there is nothing but files, in one folder an attempt
(`folder.py`): so each can come and go without the other.

======== ================ =======================================================================
file     written by       says
======== ================ =======================================================================
record   agent            what to run; written whole and durable before anything is started
lock     agent, empty     flock, held by the supervisor for as long as it lives
ticket   agent, blank     whoever renames it, holding the lock, decides: it is there only once
started  supervisor       was ``ticket``: the attempt has been started, by this process
void     agent            was ``ticket``: the attempt never starts
running  supervisor       the first step of the job really began, and when
found    supervisor       the commit that it would run
fixed    agent            the commit that it runs: the first that a job of the workload found
stop     agent            end it, with so many seconds of grace
why      agent            beside ``stop``: who stops it and why, for the log
log      supervisor       output, bounded
sent     agent            which part of the log is in the store, or on its way there
result   supervisor       how it ended; durable (where it is lost or void: by the agent)
======== ================ =======================================================================

``ticket``, ``sent`` and what is written later have their place on the disk from the beginning
(``folder.reserve``), so that a full disk can fail a job but not lose its result.

**Exactly once.** An attempt is started by renaming ``ticket`` under the lock. A request to the
spawner is therefore harmless when doubled, late, or from an agent that has died since.

**Adoption.** A new agent reads each folder. Lock held: the supervisor lives; the agent goes on
behind ``sent``. Lock free and ``ticket`` there: never started; started if it is still desired. Lock
free without ``ticket``, or a record of another boot of the machine: the supervisor has ended. What
is left of its job is killed; then its result counts, and without one the job is lost. A record that
does not match its checksum, or names another job: the job is ended and its folder kept in
``quarantine``. No folder for what the store knows to have begun: whatever is left of it is killed,
and it is lost; it never begins again.

**A result counts when the job has ended.** A job runs as the same user and can write ``result``. So
the agent believes nothing that is in the folder while the supervisor lives: the spawner, which is
its parent, says how it ended. Status 0: it ended its job and wrote the result itself. Anything
else: the job is lost, whatever ``result`` says. The spawner is a subreaper: what a job leaves
behind that has killed its supervisor becomes the spawner's child, and is killed before the end is
said. For the supervisor of an earlier agent the lock tells, and that no process has its name.

**What a job may do to its folder.** Nothing in there is waited for or trusted. The agent's folder
and each attempt's are opened once and named by descriptors; files below are opened without
following links or blocking and read up to a bound. A file that is not one of ours, or gone, loses
this one job. Where descriptors or space run out, the same is tried again at the next look; the
agent takes as many descriptors as it may, its jobs as many as before.

**Trouble of the worker.** A job whose commands never began, for a cause that lies with the worker
(a full disk, no git, no memory), is not the build's failure: the report says so (``not_begun``),
and the job goes to another worker. The nodes are told first, and give this worker nothing until it
finds by itself that jobs can begin again (``readiness.py``).

**Lost.** A build's job ends with its worker's lease, so that another worker may have a new attempt:
its supervisor reads in ``heard``, a file beside the attempts' folders, when the last heartbeat that
a node answered was sent (``heard.py``). The agent may be dead, frozen or cut off: nobody has to do
anything. A deploy runs on; with the in-process worker of a node that is alone so does everything.

**One commit.** All jobs and attempts of a workload run the commit that the first of them found.
After the clone a supervisor looks the branch, tag or hash up in it (``repository.py``) and writes
``found``, unless the assignment already has the whole hash. The agent asks the store
(``Store.fix_commit``; a worker of its own asks its node, ``wire.Found``): one guarded statement
sets the workload's commit where it has none, and answers with the one it has. The agent writes that
into ``fixed``; only then the supervisor checks out exactly that commit and begins the commands.
Each side may die in between: what is asked again gets the same answer. Under an old lease there is
none.

**Times.** The supervisor measures what a run took by CLOCK_BOOTTIME, which nobody sets and which
goes on while the machine sleeps, and writes the seconds into its result. The time limit goes by the
same clock; it ends a job as a stop does: SIGTERM, the grace, SIGKILL. When a job began and ended is
told by the engine's clock alone.

**Reports.** An attempt's log is wholly in the store before its end is reported, and its folder goes
only after the report is durable and nobody desires the attempt any more.

**What holds a job together.** A cgroup of its own where cgroup v2 may be written to, and in any
case the supervisor as child subreaper: all descendants, however detached, are found and killed at
the end, at a stop and at the time limit. Processes of a job run as the service's own user: this
driver keeps jobs apart, it does not keep a hostile job from the service.
"""

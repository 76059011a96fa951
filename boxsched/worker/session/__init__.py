"""The server of an SSH session: it runs inside the Box, in place of a job's script.

The supervisor starts it as the last step of the job, so everything that it starts is isolated and
ended like the processes of any job. It gets no path: the sockets that it accepts connections on,
its settings and the pipe for its public key are inherited descriptors. So it works without a
network, and no file of the job can take the place of a socket.

The server makes its host key when it starts. The private half never leaves its memory, which other
processes of the job cannot read. The public half goes to the supervisor, the agent and the store,
and clients accept no other key.

Only the given public keys are accepted, for the users of USERS. The session ends:

- when a command or shell of the user ONCE ends: ``boxsched ssh`` connects as that user;
- LINGER_SECONDS after the last connection has ended;
- when nobody has connected for WAIT_SECONDS;
- by SIGTERM, from the supervisor: at a stop and at the time limit. Terminals are warned before the
  time limit.

Each channel's program has pipes, or a terminal if the client asked for one (``programs.py``). The
pumps copy 64 KiB at a time and wait for the slower side. A program's exit status is sent only after
the end of both of its outputs, so no output is lost. Files are served by the library's SFTP server,
which ``scp`` uses, too; ``rsync`` is a program.

A connection that does not authenticate within LOGIN_SECONDS is closed. Each listener has a limit of
such connections, so strangers on the network cannot block the way through the node.
"""

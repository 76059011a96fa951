"""The node's side of external workers: their connections, assignments and reports.

A worker holds one WebSocket to one node and speaks ``boxsched.protocol.wire`` over it. Where a
proxy refuses WebSockets it uses long polling, with the same messages and guarantees
(``long_polls``). The gateway decides nothing. It reads from the store what a worker should run and
sends it to the worker; it writes the worker's reports and output into the store. When the node
ends, the worker sends everything that was not acknowledged to another node.

A connection's life (``Gateway.serve``, ``Entry``, ``WorkerLink``):

    Hello -> Store.connect_worker -> inbox BoxesSet -> Welcome -> Level -> ... -> disconnected
      |             |
      '- Refused <--'     wrong version, invalid, the name is another's, the node leaves or is full

``boxsched worker --check`` sends a Check with its Hello instead. It gets the same refusals, because
the store connects the worker in a transaction that it then rolls back; the history notes none.

A worker is bound to the token of its first connection: while that token is valid, a connection with
another token is refused. A token for one worker is taken by the first that connects with it. Others
have a limit of workers: a new worker beyond it replaces the worker of the same token that has been
disconnected longest, if there is one. Such refusals are noted in the history (``refusals``).

The store numbers a worker's connections; only the one with the greatest number counts. An older one
on this node is closed at once. An older one on another node is closed at its next heartbeat, which
the store refuses.

Down (``LookUps``, ``WorkerLink.give``, ``WorkerSender``): a worker is sent its *level*, the
complete list of jobs that it should run, never a difference. A hint asks for a look-up. While one
query runs, further requests are collected, and the next query answers all of them. So there is one
query at a time, and levels never go back in time. A worker is sent its level when it has changed,
and at least every LEVEL_SECONDS: a lost hint costs only time. While hints do not reach this node,
it looks up all of its workers repeatedly.

Up (``received``, ``MessageQueue``): a message is checked completely before it is used. Then it is
stored, in the order of arrival, with one queue each for reports, output and commits. Messages that
arrive during a write are stored together by the next write, and then get their ``Ack``: an ``Ack``
means that the message is durable. Only reports of jobs in the worker's last level go into the
inbox. For any other report the level is read again before the report is called stale. The engine
checks the lease tokens again.

Alive (``Beats``, ``Ends``): one statement a second records all heartbeats since the last one. The
``Ack`` of a heartbeat means that the store has it, since a build's deadline counts from it. After a
connect the worker may use the former node's ``lost_after`` or this node's, so the store keeps the
greater. A worker sends heartbeats only after the Welcome, so with the first one this node's value
applies.

Ghosts: a heartbeat names the attempts that the worker holds although its level does not contain
them. What is not in the last look-up either is stored (``Beats``), replacing what was stored for
the worker; the first heartbeat of a connection names all of them, or none. The ``Ack`` names those
to end: a person has decided it, or the end was reported before and only the answer was lost.

When something fails:

* The database is away: nothing is acknowledged, and each write is repeated until the database is
  back. Connections stay open. Unwritten messages are limited; beyond the limit nothing more is
  read, and a connection that is not read does not count as silent.
* A worker sends nothing for UNKNOWN_AFTER_SECONDS: its connection is closed.
* A worker does not read: the newest level and its Acks wait for ``Times.write`` seconds, and
  nothing more is read from it meanwhile. Then the connection is cut.
* A worker violates the protocol: its connection is closed, and the reason is counted.
* The node stops: it sends ``Leave`` to all workers, gives them a moment to move, and closes the
  rest. They stay marked as connected, because they connect again at once; so they are not reported
  as away.
"""

from boxsched.gateway.gateway import Gateway

__all__ = ["Gateway"]

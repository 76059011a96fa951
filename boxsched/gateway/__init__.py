"""The node's side of external workers: who is connected here, what they are told, what they say.

A worker holds one WebSocket to one node and speaks ``boxsched.protocol.wire`` over it. The gateway
decides nothing: it tells a worker what the store says that it should run, and carries what the
worker says into the store. Whatever it forgets by ending, the worker says again to another node.

A connection's life (``Gateway.serve``, ``Entry``, ``Link``):

    Hello -> Store.connect_worker -> inbox BoxesSet -> Welcome -> Level -> ... -> disconnected
      |             |
      '- Refused <--'     wrong version, invalid, the name is another's, the node leaves or is full

A worker is bound to the token that it first came with: with another one nobody takes its place
while that holds. A token has so many workers; where there is no place, the worker that has been
gone longest is forgotten for a new one.

The store numbers a worker's connections; the greatest number is the connection. An older one on
this node is ended at once, one on another node at its next heartbeat, which the store refuses.

Down (``LookUps``, ``Link.give``, ``Sending``): always a level, never a difference. Whoever has a
hint asks for a look-up. While one query is under way further asks gather; the next query serves
them all, so there is one query at a time, and levels never go back in time. A worker gets its level
where it is another than the last one, and every LEVEL_SECONDS anyhow: a lost hint loses time only.
Where hints do not reach this node, all its workers are looked up again and again.

Up (``reading``, ``Lane``): what a worker says is checked wholly before anything else is done with
it, and then stored in order, a lane for reports and one for output. Messages that come while a
write is under way go into the store together, and then get their ``Ack``: an ``Ack`` means durable.
Only reports of what the last look-up gave this worker go into the inbox; where one is not in it
there is a fresh look-up before it is called stale, and what that found is durable then, too. The
engine checks the tokens again.

Alive (``Beats``, ``Ends``): one statement a second for all whose heartbeat came since; the ``Ack``
of a heartbeat says that the store has it, as a build's deadline begins with it. With a connect the
worker may go by the former node's ``lost_after`` or by this one's, and the store keeps the greater;
a heartbeat is sent only behind the Welcome, so that with it this one's holds alone.

What happens when something goes:

* The database: nothing is acknowledged, and tried again until it is back; the connections stay.
  What has been taken in is bounded, then nothing more is read, and a connection that is not read
  is not taken for silent.
* A worker that sends nothing for UNKNOWN_AFTER_SECONDS: its connection is ended.
* A worker that does not read: what waits for it is the newest level and its Acks, for as long as
  ``Times.write``; no more is read from it meanwhile. Then it is cut.
* A worker that says what is not of the protocol: its connection ends, with the reason counted.
* The node leaves: ``Leave`` to all, a little time to go by themselves, then they are ended. They
  stay marked as connected, since they come again at once; so nobody is told that they are away.
"""

from boxsched.gateway.gateway import Gateway

__all__ = ["Gateway"]

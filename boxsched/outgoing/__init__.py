"""Notifications: commit statuses to code hosts, and hooks, from an outbox table.

In the transaction that changes a workload, the engine writes a row of ``notification`` for each
target of its project (``store/steps/notifications.py``). So every committed change has its rows,
even if the node dies right after it. A sender on every node claims rows and delivers them:

1. ``sender`` looks for hosts with rows that are due, and claims a few rows of each. A claim lasts
   CLAIM_SECONDS; when a node dies, its rows are due again after that time.
2. ``statuses`` makes the request of a commit status, one pure module a provider; ``hooks`` makes
   the request of a hook and signs it.
3. ``delivery`` sends it, over connections that ``guard`` allows.
4. The outcome is stored: delivered; tried again after a pause that doubles; dead after a day.

Each notification is delivered at least once: if a node dies between the request and the stored
outcome, there is a second request with the same delivery id. The rows of one workload and target
are sent in order: while one waits, later ones wait too.

==================================  =============================================================
problem                             effect
==================================  =============================================================
a receiver refuses or redirects     tried again for a day, then dead; redirects are not followed
it answers ``Retry-After``          this node does not send it before that time, and sends nothing
                                    to its host before that, or for 10 minutes
it hangs                            the request is cut after 5 s; each host has its own limit of
                                    requests, so other hosts are not affected
its address is private or local     dead at once, unless the operator allowed the host
the target is no longer in the
settings                            dead at once
this node cannot open the secret    tried again, here or on another node
the database is away                the sender waits; outcomes that it could not store are lost,
                                    and the claims expire
==================================  =============================================================

Dead rows are listed, and can be sent again by an operator.
"""

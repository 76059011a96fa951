"""The API: HTTP in, JSON out (docs/api.md).

Three rooms: ``http`` (connections, the guard, bodies, replies), ``auth`` (tokens, sessions) and
``resources`` (one module a resource). Resources use the other two, never the other way.

A request passes, in this order:

    serving    the connection: deadlines, what is not HTTP, the last resort for our own mistakes
    guard      the one middleware: who asks, whether they may, the form of every refusal
    routes     the table: path, policy, handler, and what openapi.json says
    (handler)  projects, submissions, workloads, logs, fleet, activity, events, operations
    bodies     bytes -> value, by the types in ``requests``, which are what openapi.json shows
    asked      a checked submission: NewWorkload, decided as far as it can be without a number
    node       durable, then
    answers    stored values -> JSON; ``replies`` puts headers around it

Nothing is parsed twice, and nothing behind ``bodies`` and ``checks`` is of a wrong type or size.
A handler raises an error of ``boxsched.errors``; it never makes an error's answer itself.

Routes are closed unless opened: a route without a policy, and a path without a route, ask for a
token. Streams (``streams``) are written with a deadline, and cut when they must end early, so that
a reader can tell "that was all" from "come back".
"""

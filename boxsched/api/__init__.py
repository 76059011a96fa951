"""The API: HTTP in, JSON out (docs/api.md).

It has five packages; each imports only those below it:

    resources   the handlers of the routes, one module a resource
    submitting  make a new workload from a submission and its project's settings
    messages    the types of requests and answers, and the checks of requests
    http        connections, the guard, bodies, replies, streams
    auth        tokens, their rights and scopes, sessions

A request passes, in this order:

    http.serving        the connection: deadlines, data that is not HTTP, unexpected errors
    http.guard          the only middleware: token, right, scope, the format of every refusal
    routes              the table: path, right, handler, and its description in openapi.json
    resources           the handler
    http.bodies         bytes -> value, by the types in ``messages.requests``
    messages.checks     the rules that a type cannot state
    submitting          a checked submission -> NewWorkload, which has no number yet
    node, store         make it durable
    messages.answers    stored values -> JSON; ``http.replies`` adds the headers

Nothing is parsed twice. After ``bodies`` and ``checks`` every value has the right type and size.
A handler raises an error of ``boxsched.errors`` and never writes an error's answer itself.

A path without a route requires a token. Streams (``http.streams``)
are written with a deadline. A stream that must end early is cut, so that a reader can tell a
complete stream from a broken one.
"""

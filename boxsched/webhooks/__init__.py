"""Webhooks: from the request of a code host to what it means, without any I/O. (Only ``apart`` has
some: it reads a large body in a process of its own.)

The API's part takes a request, and asks in this order:

1. ``signatures.verified(provider, headers, body, secrets, now)``: was it signed with the project's
   secret? This looks at the raw bytes, before anything reads them.
2. ``reading.read(provider, headers, body)``: a ``Delivery`` with its events (``events``), or a
   ``Malformed`` or ``Invalid`` error. Whatever the body is, nothing else is raised.
3. ``repositories.names_repository(delivery, url)``: is it about the project's repository?

What follows from an event (which builds are registered or ended, and which deliveries are
duplicates) is for the caller to decide. Which pull requests of forks are built is a setting of the
project; so ``ChangeRequest`` only says that it comes from a fork.

docs/webhooks.md, "What each event does" and "What is ignored", has the rules.

There is one module a provider in ``providers``: its payloads as types, and pure functions from a
payload to events. ``cleaning`` makes texts from outside safe to store and show.
"""

"""Webhooks: turn a code host's request into events, without any I/O. (Except ``apart``, which reads
a large body in a separate process.)

The API receives the request and calls, in this order:

1. ``signatures.verified(provider, headers, body, secrets, now)``: whether it was signed with the
   project's secret. This uses the raw bytes, before anything parses them.
2. ``reading.read(provider, headers, body)``: a ``ParsedDelivery`` with its events (``events``), or
   a ``Malformed`` or ``Invalid`` error. No body raises another error.
3. ``repositories.names_repository(delivery, url)``: whether it is about the project's repository.

The caller decides which builds to register or end, and which deliveries are duplicates. Whether
pull requests of forks are built is a setting of the project, so ``ChangeRequest`` only says that it
comes from a fork.

The rules are in docs/webhooks.md, "What each event does" and "What is ignored".

``providers`` has one module for each provider: types of its payloads, and pure functions that turn
a payload into events. ``cleaning`` makes texts from outside safe to store and show.
"""

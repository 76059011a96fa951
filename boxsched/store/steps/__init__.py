"""The store's procedures, the same for every database: each is a generator of statements.

It yields a ``Call``, receives its rows, and returns the result. So a driver with threads and one
with awaits can run the same code. Between two statements nothing else happens in its transaction;
an error that a procedure raises rolls it back. A procedure may be run again from its beginning.
"""

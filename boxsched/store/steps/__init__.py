"""What the store does, once for every database: each procedure is a generator of statements.

It yields a ``Call``, is sent its rows, and returns the answer; so a driver with threads and one
with awaits run the same text. Between two statements nothing else happens to its transaction; an
error that a procedure raises rolls it back. A procedure may be run again from its beginning.
"""

"""PostgreSQL behind the store, through aiopg, and through psycopg2 for commands."""

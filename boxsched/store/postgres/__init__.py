"""The PostgreSQL driver of the store: aiopg for services, psycopg2 for commands."""

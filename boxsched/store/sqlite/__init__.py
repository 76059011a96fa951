"""The SQLite driver of the store: one writing connection in a separate thread, and some for
reads."""

"""SQLite behind the store: one writing connection in a thread of its own, and some that read."""

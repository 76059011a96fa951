"""Automatic work: deploys to servers that follow a branch, and reading jobs from a file in the
repository."""

"""Automatic work: deploys to servers that follow a branch, scheduled builds, and reading jobs from
a file in the repository."""

LOOK_SECONDS = 5.0  # longest pause between two queries, because a wake-up can be lost

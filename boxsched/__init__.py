"""boxsched schedules a team's builds, deploys and SSH sessions on Boxes (job slots)."""

__version__ = "0.1.0"

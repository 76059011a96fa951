"""boxsched decides what runs next on a team's Boxes: builds, deploys and SSH sessions."""

__version__ = "0.1.0"

"""The demo's projects, and traffic for them: builds, deploys and SSH sessions of a small team."""

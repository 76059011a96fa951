"""The demo's projects, and traffic for them: builds and deploys like those of a small team."""

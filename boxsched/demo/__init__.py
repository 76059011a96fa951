"""The demo's projects, and what keeps them busy: builds and deploys as a small team makes them."""

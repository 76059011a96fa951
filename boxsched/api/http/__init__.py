"""HTTP for all resources: connections, deadlines, bodies, guard, replies and streams."""

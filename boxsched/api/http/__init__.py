"""HTTP as every resource uses it: connections, deadlines, bodies, guard, replies and streams."""

"""A node: it connects store, leadership, engines, bus, feed, gateway and in-process worker."""

"""A node: store, leadership, engines, bus, feed, gateway and in-process worker, put together."""

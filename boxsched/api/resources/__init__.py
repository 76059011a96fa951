"""The handlers of the routes, one module for each resource."""

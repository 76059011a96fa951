"""What answers requests: one module a resource, with the handlers of its routes."""

"""What the API is about: one module a resource, and the types of its requests and answers."""

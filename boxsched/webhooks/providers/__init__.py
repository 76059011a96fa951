"""The payloads of each provider, and their conversion to events.

Each module has ``read(headers, body) -> ParsedDelivery``. The types contain only the fields that
are used; all other fields may have any value. If a field's type differs from the host's
documentation, ``msgspec.ValidationError`` is raised. ``reading`` turns it into an error that names
the field.
"""

"""The payloads of each provider, and what they mean.

Each module has ``read(headers, body) -> Delivery``. The types name only the fields that are used;
all other fields may be anything. A field of another type than the host documents raises
``msgspec.ValidationError``, which ``reading`` turns into a refusal that names the field.
"""

"""The JSON Schema of job files, made from the types that read them.

It expresses less than ``boxsched lint`` checks: not that jobs must have different names, and not
the total size of a script or an environment.
"""

from typing import Any

import msgspec

from boxsched.job_files.reading import JobFile

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "Jobs of a boxsched build"


def schema() -> dict[str, Any]:
    made = {"$schema": DRAFT, "title": TITLE, **msgspec.json.schema(JobFile)}
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))  # with JSON's defaults
    return found


def text() -> bytes:
    """Return the schema's published text."""
    return msgspec.json.format(msgspec.json.encode(schema())) + b"\n"

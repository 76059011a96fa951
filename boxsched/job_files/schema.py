"""The form of a job file as a JSON Schema, made of the types that files are read with.

It says less than ``boxsched lint``: not that names of jobs differ, and not how large a script or an
environment may be in all.
"""

from typing import Any

import msgspec

from boxsched.job_files.reading import JobFile

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "Jobs of a boxsched build"


def schema() -> dict[str, Any]:
    return {"$schema": DRAFT, "title": TITLE, **msgspec.json.schema(JobFile)}


def text() -> bytes:
    """The schema as it is published."""
    return msgspec.json.format(msgspec.json.encode(schema())) + b"\n"

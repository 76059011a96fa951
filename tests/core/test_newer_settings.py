"""Which settings nodes of an earlier version would not understand."""

from typing import Any

import pytest

from boxsched.api.submitting.stored_settings import field_of_eighth_schema, newer_field

JOB = {"name": "unit", "commands": ["true"]}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"cache": ["target"]}, "cache"),
        ({"ssh_forwarding": True}, "ssh_forwarding"),
        ({"ssh_timeout_seconds": 60}, "ssh_timeout_seconds"),
        ({"jobs": [JOB, {**JOB, "retry": {}}]}, "jobs[1].retry"),
        ({"jobs": [{**JOB, "artifacts": ["out"]}]}, "jobs[0].artifacts"),
        (
            {"servers": {"live": {"jobs": [{**JOB, "artifacts": ["out"]}]}}},
            "servers.live.jobs[0].artifacts",
        ),
    ],
)
def test_fields_of_the_eighth_schema_are_found(settings: dict[str, Any], field: str) -> None:
    assert field_of_eighth_schema(settings) == field
    assert newer_field(settings) is None, "nodes of the sixth and seventh schema do not know it"


def test_older_fields_need_no_newer_node() -> None:
    known = {
        "jobs": [{**JOB, "parallelism": 2}],
        "servers": {"live": {"jobs": [JOB], "queue": "newest"}},
        "clone": {"depth": 1},
        "max_boxes": 3,
    }
    assert field_of_eighth_schema(known) is None
    assert newer_field(known) == "clone"

"""Refuse jobs that a worker of an earlier version would run without a part of what they need."""

from collections.abc import Sequence

import attrs

from boxsched.protocol.assignments import Assignment
from boxsched.protocol.wire import Hello
from boxsched.secrets.assignment_secrets import refuse_on_older_worker

_TOO_OLD = "this worker is too old to keep artifacts: upgrade it"

_NO_IMAGES = "this worker is too old to run jobs in images: upgrade it"


def fitting(assignments: Sequence[Assignment], hello: Hello) -> Sequence[Assignment]:
    """Return the assignments for this worker: those that it does not understand fail there."""
    if not hello.keeps_artifacts:
        assignments = [
            attrs.evolve(one, refusal=one.refusal or _TOO_OLD)
            if one.artifacts or one.is_given_artifacts
            else one
            for one in assignments
        ]
    if not hello.knows_images:
        assignments = [
            attrs.evolve(one, refusal=one.refusal or _NO_IMAGES) if one.image is not None else one
            for one in assignments
        ]
    return assignments if hello.takes_secrets else refuse_on_older_worker(assignments)

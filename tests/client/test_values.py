"""The client's values have every field that the service answers."""

import msgspec
import pytest

from boxsched.api import activity, answers, explanation, fleet, nodes, token_routes
from boxsched.client import values


def fields(kind):
    return {field.encode_name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(
    ("answered", "value"),
    [
        (answers.JobAnswer, values.Job),
        (answers.WorkloadAnswer, values.Workload),
        (answers.SshAddress, values.SessionDoor),
        (answers.WorkloadList, values.Page),
        (explanation.Explanation, values.Explanation),
        (explanation.BlockedBy, values.Blocker),
        (fleet.WorkerAnswer, values.Worker),
        (fleet.BoxAnswer, values.Box),
        (nodes.NodeAnswer, values.Node),
        (token_routes.TokenAnswer, values.Token),
        (token_routes.NewTokenAnswer, values.NewToken),
        (activity.ActivityAnswer, values.Activity),
        (activity.BoxCounts, values.Boxes),
    ],
    ids=lambda kind: kind.__name__,
)
def test_no_field_of_an_answer_is_missing(answered, value):
    assert fields(answered) - fields(value) == set()

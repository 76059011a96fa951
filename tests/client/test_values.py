"""The client's values have every field of the service's answers."""

import msgspec
import pytest

from boxsched.api.messages import answers, explanation
from boxsched.api.resources import activity, fleet, me, nodes, set_aside
from boxsched.api.resources import tokens as token_routes
from boxsched.client import records


def fields(kind):
    return {field.encode_name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(
    ("answered", "value"),
    [
        (answers.JobAnswer, records.Job),
        (answers.WorkloadAnswer, records.Workload),
        (answers.SshAddress, records.SshEndpoint),
        (answers.WorkloadList, records.Page),
        (explanation.Explanation, records.Explanation),
        (explanation.BlockedBy, records.Blocker),
        (fleet.WorkerAnswer, records.Worker),
        (fleet.BoxAnswer, records.Box),
        (nodes.NodeAnswer, records.Node),
        (set_aside.SetAsideAnswer, records.SetAside),
        (token_routes.TokenAnswer, records.Token),
        (token_routes.NewTokenAnswer, records.NewToken),
        (me.MeAnswer, records.Me),
        (activity.ActivityAnswer, records.Activity),
        (activity.BoxCounts, records.Boxes),
        (activity.Notice, records.Notice),
    ],
    ids=lambda kind: kind.__name__,
)
def test_no_field_of_an_answer_is_missing(answered, value):
    assert fields(answered) - fields(value) == set()


def test_an_activity_with_a_notice_is_read():
    notice = activity.Notice("2026-01-02T03:04:05.000006Z", "Restored.")
    sent = activity.ActivityAnswer(activity.BoxCounts(2, 1), (), (), (), (), notice, "1.2.3")
    read = msgspec.json.decode(msgspec.json.encode(sent), type=records.Activity)
    assert (read.notice.text, read.notice.at.year, read.cursor) == ("Restored.", 2026, "1.2.3")

"""The generic provider."""

import pytest

from boxsched.errors import Invalid, Malformed
from boxsched.webhooks.reading import read
from tests.webhooks.event_lines import event_line
from tests.webhooks.sample_payloads import A, delivery, line_of_delivery


def test_a_branch_or_a_tag_is_built():
    assert (
        line_of_delivery("generic", None, {"branch": "main"})
        == "branch main at no commit None by None"
    )
    whole = {"branch": "main", "commit": "ABCDEF1", "message": "Fix it\n", "author": "Ann"}
    assert line_of_delivery("generic", None, whole) == "branch main at abcdef1 'Fix it' by Ann"
    assert line_of_delivery("generic", None, {"tag": "v1", "commit": A}).startswith(
        "tag v1 at aaaaaaaaaaaa"
    )


def test_a_deleted_branch_or_tag_is_recognized():
    assert line_of_delivery("generic", None, {"branch": "x", "deleted": True}) == "branch x deleted"
    deleted = delivery("generic", None, {"tag": "v1", "deleted": True, "delivery": "d1"})
    assert event_line(deleted.events[0]) == "ignored: the tag v1 was deleted"
    assert (deleted.event, deleted.id, deleted.repositories) == ("delete", "d1", ())
    assert delivery("generic", None, {"branch": "x", "deleted": False}).event == "push"


def test_a_skip_tag_counts():
    line = line_of_delivery("generic", None, {"branch": "main", "message": "[skip ci]"})
    assert line == "ignored: a skip tag in the message: [skip ci]"


def test_the_null_hash_from_a_script_in_git_is_a_deletion():
    for null in ("0" * 40, "0" * 64):
        assert (
            line_of_delivery("generic", None, {"branch": "x", "commit": null}) == "branch x deleted"
        )
    assert line_of_delivery("generic", None, {"branch": "x", "commit": "0" * 7}).startswith(
        "branch x at 0000000"
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "branch"),
        ({"branch": "a", "tag": "b"}, "branch"),
        ({"branch": ""}, "branch"),
        ({"branch": "a..b"}, "branch"),
        ({"branch": "-x"}, "branch"),
        ({"branch": "HEAD"}, "branch"),
        ({"branch": "a\nb"}, "branch"),
        ({"branch": "x" * 256}, "branch"),
        ({"tag": "a b"}, "tag"),
        ({"branch": 5}, "branch"),
        ({"branch": "a", "commit": "main"}, "commit"),
        ({"branch": "a", "commit": "abc"}, "commit"),
        ({"branch": "a", "delivery": ""}, "delivery"),
        ({"branch": "a", "delivery": "x" * 256}, "delivery"),
        ({"branch": "a", "deleted": "yes"}, "deleted"),
        ({"branch": "a", "brnach": "b"}, "brnach"),
    ],
)
def test_an_invalid_value_is_refused_with_its_field(body, field):
    with pytest.raises(Invalid) as raised:
        delivery("generic", None, body)
    assert raised.value.field == field


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"5", b'"x"', b"{", b'{"branch": 5', b"branch=a", b"\xff",
     b'{"branch": "a", "branch": "b"}', b'{"branch": "a", "x": 1, "x": 2}', b'{"a": NaN}',
     b'{"branch": "\\ud800"}', b'{"branch": "a"} x', b'\xef\xbb\xbf{"branch": "a"}'],
)  # fmt: skip
def test_a_body_that_is_not_a_json_object_is_malformed(body):
    with pytest.raises(Malformed):
        read("generic", {}, body)

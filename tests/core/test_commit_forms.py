"""The forms of a commit's hash: given by a person, reported by a worker, printed by git."""

import pytest

from boxsched import commits

SHA1, SHA256 = "0123456789abcdef" * 2 + "01234567", "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "given", "reported", "whole"),
    [
        (SHA1, True, True, True),
        (SHA256, True, True, True),
        (SHA1.upper(), True, False, False),
        (SHA1[:7], True, True, False),
        (SHA1[:6], False, False, False),
        (SHA1 + "0", True, True, False),
        (SHA256 + "0", False, False, False),
        (SHA1 + "\n", False, False, False),
        ("g" + SHA1[1:], False, False, False),
        ("", False, False, False),
    ],
)
def test_each_form_accepts_only_its_own_texts(
    text: str, given: bool, reported: bool, whole: bool
) -> None:
    found = (commits.is_given(text), commits.is_reported(text), commits.is_whole(text))
    assert found == (given, reported, whole)

"""A value in the wrong form is refused with a description of the right form."""

from typing import Any

import msgspec
import pytest

from boxsched.api.http import forms
from boxsched.api.http.bodies import Form
from boxsched.api.messages import requests
from boxsched.errors import Invalid
from tests.service.running_service import PUBLIC_KEY

ASKED = (
    requests.ProjectSettings,
    requests.AskBuild,
    requests.AskDeploy,
    requests.AskSession,
    requests.AskToken,
)


def patterns(described: Any) -> set[str]:
    if isinstance(described, dict):
        own = {described["pattern"]} if isinstance(described.get("pattern"), str) else set()
        return own.union(*map(patterns, described.values()))
    return set().union(*map(patterns, described)) if isinstance(described, list) else set()


def test_every_pattern_has_a_message() -> None:
    _, described = msgspec.json.schema_components(ASKED)
    assert patterns(described) == forms.FORMS.keys()


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (requests.AskBuild, {"commit": "zzz"}, ("commit", "7 to 64 hexadecimal digits")),
        (requests.AskBuild, {"branch": "-x"}, ("branch", "must not begin with '-'")),
        (requests.AskBuild, {"author": "a\nb"}, ("author", "must not contain control characters")),
        (requests.AskBuild, {"message": "a\0"}, ("message", "must not contain a NUL")),
        (
            requests.AskSession,
            {"public_key": PUBLIC_KEY, "box_type": "a b"},
            ("box_type", "1 to 63"),
        ),
        (requests.ProjectSettings, {"name": "Web"}, ("name", "a-z, 0-9")),
        (
            requests.ProjectSettings,
            {"jobs": [{"name": "a", "commands": ["b"], "environment": {"BOXSCHED_X": "1"}}]},
            ("jobs[0].environment", "or with BOXSCHED_"),
        ),
    ],
)
def test_a_value_in_the_wrong_form_is_refused_with_its_form(
    kind: type, value: object, said: tuple[str, str]
) -> None:
    with pytest.raises(Invalid) as raised:
        Form(kind).read(msgspec.json.encode(value))
    field, words = said
    assert raised.value.field is not None
    assert raised.value.field.startswith(field.partition("[")[0])
    assert words in raised.value.message
    assert "(?!" not in raised.value.message

"""YAML that we write is read as the same values, with any texts in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.cli import json_text, yaml_text
from boxsched.cli.documents import steps_of

ODD = ["yes", "1:30", "010", "1e3", "2026-01-01", "~", "null", "<<", "=", "", " a", "a ", "a: b",
       "- a", "#", "a\n", "\na", " a\nb", "a\n\n", "a \nb", "\ta", "a\x85b", "a\u2028b\n", "\ufeff",
       "🦉", "|", "'", '"', "\\", "%", "@a", "`", "!!str", "&a", "*a", "{", "[", ",", "1_000", ".5",
       "a\r\nb", "\x7f", "0x1f", "off", "NaN", ".nan", "---",
       "...", "--- a", "a\n---\nb"]  # fmt: skip
texts = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
values = st.recursive(
    st.one_of(texts, st.integers(-(10**16), 10**16), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_written_values_are_read_back_unchanged(value):
    (read,) = yaml_text.documents(yaml_text.dump(value).encode())
    assert read.value == value


@pytest.mark.parametrize("number", [0.5, 1e100, 1.5e-7, 60.0, -2.25])
def test_numbers_with_a_point_stay_numbers(number):
    (read,) = yaml_text.documents(yaml_text.dump({"a": number}).encode())
    assert read.value == {"a": number}


def test_a_script_is_written_line_by_line_and_a_short_list_on_one_line():
    text = yaml_text.dump(
        {"jobs": [{"commands": ["if true; then\n  make\nfi\n"], "on": ["a", "b"]}]}
    )
    assert text == (
        "jobs:\n- commands:\n  - |\n    if true; then\n      make\n    fi\n  'on': [a, b]\n"
    )


YAML = b"""\
jobs:
- name: unit
  commands: [a]
- &deploy
  name: two
  commands:
  - x
servers:
  eu.prod:
    jobs:
    - <<: *deploy
  eu:
    guard: true
"""
JSON = b"""\
{
  "jobs": [{"name": "unit", "commands": ["a", "]"]},
           {"name": "two", "commands": ["x"]}],
  "servers": {"eu.prod": {"jobs": [
    {"name": "two"}]},
    "eu": {"guard": true}}
}
"""


@pytest.mark.parametrize(
    ("field", "yaml_place", "json_place"),
    [
        ("jobs[0].commands", (3, 3), (2, 29)),
        ("jobs[1].commands[0]", (7, 5), (3, 41)),
        ("servers.eu.prod.jobs[0].name", (5, 3), (5, 6)),
        ("servers.eu.prod.jobs", (10, 5), (4, 27)),
        ("servers.eu.guard", (13, 5), (6, 12)),
        ("servers.eu.nothing", (12, 3), (6, 5)),
        ("jobs[7].name", (1, 1), (2, 3)),
        ("nothing", (1, 1), (1, 1)),
        ("", (1, 1), (1, 1)),
    ],
)
def test_a_field_is_found_in_the_text(field, yaml_place, json_place):
    (in_yaml,) = yaml_text.documents(YAML)
    in_json = json_text.document(JSON)
    assert in_yaml.find(steps_of(in_yaml.value, field)) == yaml_place
    assert in_json.find(steps_of(in_json.value, field)) == json_place

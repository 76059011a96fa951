"""Project files: what they may contain, and that reading one is limited."""

import json
import time

import pytest

from boxsched.cli import project_file
from boxsched.cli.documents import Document
from boxsched.cli.failing import InvalidInput
from boxsched.cli.project_file import Origin, ProjectFile

JOBS = [{"name": "unit", "commands": ["make test"]}]


def read(folder, text, suffix=".yaml", name=None):
    path = folder / f"project{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return project_file.read(path, name)


def project(name, settings):
    return ProjectFile(name, settings, Origin("anywhere", Document(settings, lambda steps: (1, 1))))


def refused(folder, text, suffix=".yaml", name=None):
    with pytest.raises(InvalidInput) as error:
        read(folder, text, suffix, name)
    assert error.value.exit_code == 2
    assert "\n" not in error.value.message
    return error.value.message


def test_one_project_is_read_from_yaml(tmp_path):
    text = "name: web\njobs:\n  - name: unit\n    commands: [make test]\n"
    assert read(tmp_path, text) == [project("web", {"jobs": JOBS})]


def test_one_project_is_read_from_json(tmp_path):
    text = json.dumps({"name": "web", "jobs": JOBS})
    assert read(tmp_path, text, ".json") == [project("web", {"jobs": JOBS})]


def test_a_list_of_projects(tmp_path):
    found = read(tmp_path, "[{name: a}, {name: b}]")
    assert [project.name for project in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("name: a\n---\nname: b\n...\n---\n", ".yaml"),
        ("projects:\n  a: {}\n  b: {name: b}\n", ".yaml"),
        ("projects: [{name: a}]\n---\n[{name: b}]\n", ".yaml"),
        ('{"projects": [{"name": "a"}, {"name": "b"}]}', ".json"),
    ],
)
def test_several_projects_may_have_several_forms(tmp_path, text, suffix):
    assert read(tmp_path, text, suffix) == [project("a", {}), project("b", {})]


def test_a_project_may_be_in_one_file_only(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("name: a\n---\nname: b\n")
    second.write_text("# c\nname: b\n")
    assert len(project_file.read_all([first])) == 2
    with pytest.raises(
        InvalidInput, match=r"b.yaml: line 2, column 1: project 'b' is in two files"
    ):
        project_file.read_all([first, second])


def test_a_name_may_be_given_for_a_file_with_one_project(tmp_path):
    assert read(tmp_path, "jobs: []", name="web") == [project("web", {"jobs": []})]
    assert "--name: the file must contain one project" in refused(tmp_path, "[{}, {}]", name="web")


def test_aliases_and_merges_are_read(tmp_path):
    text = "name: web\njobs:\n  - &a {name: x, commands: [x]}\n  - <<: *a\n    name: y\n"
    [project] = read(tmp_path, text)
    assert project.settings["jobs"][1] == {"name": "y", "commands": ["x"]}


def test_a_branch_may_look_like_a_date(tmp_path):
    [project] = read(tmp_path, "name: web\ndefault_branch: 2026-01-01\n")
    assert project.settings["default_branch"] == "2026-01-01"


def test_numbers_are_read_as_people_write_them(tmp_path):
    """YAML 1.1 reads 1:30 as 90, 010 as 8 and 0x1f as 31."""
    text = "{name: web, a: 1:30, b: 010, c: 0x1f, d: 8080, e: 1.5, f: 1_000, g: -2, h: 1e3}"
    [project] = read(tmp_path, text)
    assert project.settings == {
        "a": "1:30", "b": "010", "c": "0x1f", "d": 8080, "e": 1.5, "f": 1000, "g": -2, "h": 1000.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "suffix", "said"),
    [
        ("", ".yaml", "must be a project"),
        ("[]", ".yaml", "it contains no project"),
        ("jobs: []", ".yaml", "name: is missing"),
        ("[{name: a}, {}]", ".yaml", "[1].name: is missing"),
        ("[{name: a}, {name: a}]", ".yaml", "'a' occurs twice"),
        ("name: a\nname: b\n", ".yaml", "line 2, column 1: 'name' occurs twice"),
        (
            "name: a\njobs:\n- {name: x,\n   name: y}\n",
            ".yaml",
            "line 4, column 4: 'name' occurs twice",
        ),
        ("name: [", ".yaml", "line "),
        ("name: !!python/object/apply:os.system ['true']", ".yaml", "line 1"),
        (b"\xff\xfe", ".yaml", "not UTF-8"),
        ("{", ".json", "line 1, column 2"),
        (
            '{"name": "a", "name": "b"}',
            ".json",
            "line 1, column 15: 'name' occurs twice in one object",
        ),
        (
            '{"name": "a", "jobs": [\n  {"name": "[,\\"{x", "commands": []},\n'
            '  {"a": {"a": 1}, "n\\u0061me": "u", "commands": ["x"], "name": "v"}\n]}',
            ".json",
            "line 3, column 56: 'name' occurs twice in one object",
        ),
        (
            '{"name": "a",\n "max_boxes": NaN}',
            ".json",
            "line 2, column 15: NaN is not JSON",
        ),
        (
            f'{{"name": "a", "max_boxes": [-1.5e3, 0, {"9" * 19}]}}',
            ".json",
            f"line 1, column 40: {'9' * 19}... is too large a number",
        ),
        ('{"name": "a", "max_boxes": -1e999}', ".json", "column 28: -1e999 is too large a number"),
        ('{"a":' * 100_000, ".json", "nested too deeply"),
        ("[" * 100 + "]" * 100, ".yaml", "nested deeper than 32"),
        ("name: x\na: &a [*a]\n", ".yaml", "more than 200000 values"),
        ("x" * 5_000_000, ".yaml", "at most 4194304"),
        ("name: a\nmax_boxes: .inf\n", ".yaml", "line 2, column 12: .inf"),
        ("name: a\nmax_boxes: -.INF\n", ".yaml", "line 2, column 12: -.INF"),
        ("name: a\nmax_boxes: .nan\n", ".yaml", "line 2, column 12: .nan"),
        ("name: a\nmax_boxes: 1.5e400\n", ".yaml", "line 2, column 12: 1.5e400"),
        ("name: a\nmax_boxes: !!float nan\n", ".yaml", "line 2"),
        ("name: a\nmax_boxes: !!int 1:30\n", ".yaml", "line 2"),
        ("name: a\nmax_boxes: " + "9" * 5_000, ".yaml", "too large"),
        ('name: a\nx: "\\ud800"\n', ".yaml", "line 2"),
        ('name: a\njobs: [{name: "\\ud800"}]\n', ".yaml", "line 2"),
        ('name: a\njobs: [{"\\ud800": 1}]\n', ".yaml", "line 2"),
        ("name: a\nenvironment: {1: x}\n", ".yaml", "the key 1 must be a string"),
        ("name: a\non: push\n", ".yaml", "the key True must be a string"),
        ("name: a\nx: !!binary aGk=\n", ".yaml", "line 2, column 4: the tag '!!binary'"),
        ('{"name": "a", "max_boxes": 1e400}', ".json", "1e400 is too large"),
        ('{"name": "a", "max_boxes": ' + "9" * 5_000 + "}", ".json", "too large"),
        (
            '{"name": "a", "x": "\\ud800"}',
            ".json",
            "line 1, column 15: x: '\\ud800' is not valid text",
        ),
        (
            '{"name": "a", "jobs": [{"\\ud800": 1}]}',
            ".json",
            "'\\ud800' is not valid text",
        ),
        ("projects: 1", ".yaml", "projects: must be a list"),
        ("projects: []", ".yaml", "it contains no project"),
        ("projects: {a: {name: b}}", ".yaml", "line 1, column 16: projects.a.name: it is 'b'"),
        ("projects: {a: 1}", ".yaml", "projects.a: must be a project"),
        ("name: a\n---\nname: a\n", ".yaml", "line 3, column 1: the project 'a' occurs twice"),
        ("name: a\n---\nname: b\nname: c\n", ".yaml", "line 4, column 1: 'name' occurs twice"),
    ],
)
def test_errors_are_reported_with_their_position(tmp_path, text, suffix, said):
    assert said in refused(tmp_path, text, suffix)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        project_file.read(tmp_path / "nothing.yaml")


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    began = time.process_time()
    assert "with all aliases expanded" in refused(tmp_path, "\n".join(lines))
    assert time.process_time() - began < 0.5


def test_many_names_are_compared_quickly(tmp_path):
    text = json.dumps([{"name": f"project-{n}"} for n in range(20_000)])
    began = time.process_time()
    assert len(read(tmp_path, text, ".json")) == 20_000
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("value", "said"),
    [("yes", '"yes"'), ("1.10", '"1.10"'), ("1_000", '"1_000"'), ("True", '"True"')],
)
def test_a_variable_is_quoted_as_it_was_written(tmp_path, value, said):
    text = f"name: web\njobs:\n- name: x\n  environment: {{A: {value}}}\n"
    message = refused(tmp_path, text)
    assert "environment.A" in message and f"write {said}" in message


@pytest.mark.parametrize(
    "value",
    ["!!timestamp 99999-99-99", "!!int a", "!!float a", "!!bool a", "!!set {a}", "!!omap [a: b]"],
)
def test_tags_are_refused_and_a_text_may_have_the_tag_of_a_string(tmp_path, value):
    assert refused(tmp_path, f"name: web\nmessage: {value}\n").endswith("is not allowed")
    [project] = read(tmp_path, "name: web\ndefault_branch: !!str 1.10\n")
    assert project.settings["default_branch"] == "1.10"

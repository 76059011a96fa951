"""Projects as files, against a real service: differences, checks, exports, history and reverts."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxsched.api.messages import requests
from boxsched.cli import project_text
from boxsched.client import BlockingClient
from boxsched.folders import DataFolder

JOB = {"name": "unit", "commands": ["make test"]}


@pytest.fixture
def client(shell):
    folder = DataFolder(Path(shell.data))
    with BlockingClient(folder.listening().url, folder.token()) as client:
        yield client
        for project in client.projects():
            client.delete_project(project.name)


@pytest.fixture
def file(tmp_path):
    def write(text, name="project.yaml"):
        path = tmp_path / name
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return str(path)

    return write


def test_a_change_is_shown_line_by_line(shell, client, file):
    apply = ("project", "apply", file({"name": "web", "jobs": [JOB]}))
    assert shell(*apply).stdout == "web: created\n"
    assert shell(*apply).stdout == "web: unchanged\n"
    file({"name": "web", "jobs": [JOB | {"commands": ["make check"]}], "max_boxes": 4})
    dry = shell(*apply, "--dry-run", status=3).stdout.splitlines()
    assert dry[0] == "web: would be changed: jobs, max_boxes"
    assert "  -  commands: [make test]" in dry and "  +  commands: [make check]" in dry
    assert "  +max_boxes: 4" in dry
    assert client.project("web").settings["max_boxes"] is None, "a dry run changes nothing"
    done = shell(*apply).stdout.splitlines()
    assert done == ["web: changed: jobs, max_boxes", *dry[1:]]
    assert shell(*apply, "--dry-run").stdout == "web: unchanged\n"


def test_a_secret_is_never_shown(shell, client, file):
    hook = {"url": "https://example.org/x", "secret": "canary-1"}
    path = file({"name": "web", "hooks": [hook], "webhook_secret": "canary-2"})
    dry = shell("project", "apply", path, "--dry-run", status=3).stdout
    assert "  + webhook_secret: set\n" in dry and "  + hooks[0].secret: set\n" in dry
    applied = shell("project", "apply", path).stdout
    file({"name": "web", "hooks": [hook], "webhook_secret": None})
    changed = shell("project", "apply", path).stdout
    assert changed == "web: changed: webhook_secret\n  - webhook_secret: removed\n"
    exported = shell("project", "export", "web").stdout
    logged = shell("project", "history", "web", "--diff").stdout
    assert "canary" not in dry + applied + changed + exported + logged
    assert "webhook_secret" in exported.split("name: web")[0], "a comment says what is not in it"


def test_credentials_for_git_are_never_shown(shell, client, file):
    settings = {"name": "web", "repository": "https://example.org/web.git"}
    shell("project", "apply", file(settings))
    path = file({**settings, "git_credentials": {"https_token": "canary"}})
    changed = shell("project", "apply", path).stdout
    assert changed == "web: changed: git_credentials\n  + git_credentials: set\n"
    assert shell("project", "apply", path).stdout == "web: unchanged\n"
    assert "canary" not in shell("project", "export", "web").stdout


def test_a_refusal_names_the_line_and_column_and_changes_nothing(shell, client, file):
    good = file("name: good\nmax_boxes: 1\n", "good.yaml")
    text = (
        "name: web\nservers:\n  eu.prod:\n    jobs:\n    - name: a\n      commands: []\n"
        "---\nname: api\nmax_boxse: 3\n"
    )
    bad = file(text, "bad.yaml")
    one = json.dumps({"projects": {"cron": {"schedules": [{"cron": "at noon", "branch": "m"}]}}})
    more = file(one, "bad.json")
    said = shell("project", "apply", good, bad, more, status=2)
    lines = said.stderr.splitlines()
    assert lines[0].startswith(
        f"boxsched: {bad}: line 6, column 7: web: servers.eu.prod.jobs[0].commands: must have"
    )
    assert lines[1].startswith(f"boxsched: {bad}: line 9, column 1: api: max_boxse: unknown field")
    assert lines[2].startswith(f"boxsched: {more}: line 1, column 39: cron: schedules[0].cron: ")
    assert len(lines) == 3 and said.stdout == ""
    assert client.projects() == []


def test_an_invalid_name_is_located_in_the_file(shell, client, file):
    path = file("# ours\njobs: []\nname: Not a name\n")
    said = shell("project", "apply", path, status=2).stderr
    assert f"{path}: line 3, column 1: Not a name: name: a project's name must be" in said


def test_a_concurrent_change_is_not_overwritten(shell, client, file, monkeypatch):
    from boxsched.client import Client

    put = Client.put_checked_project

    async def late(self, name, settings, etag):
        await self.put_project(name, {"max_boxes": 7})
        return await put(self, name, settings, etag)

    path = file("name: web\nmax_boxes: 3\n")
    for _ in ("created", "changed"):
        with monkeypatch.context() as patch:
            patch.setattr(Client, "put_checked_project", late)
            said = shell("project", "apply", path, status=1)
        assert "web: not applied, because somebody else changed it in the meantime" in said.stderr
        assert client.project("web").settings["max_boxes"] == 7
        client.put_project("web", {"max_boxes": 1})

    async def twice(self, name, settings, etag):
        await put(self, name, settings, etag)
        return await put(self, name, settings, etag)

    with monkeypatch.context() as patch:
        patch.setattr(Client, "put_checked_project", twice)
        assert shell("project", "apply", path).stdout.startswith("web: changed: max_boxes\n")


def test_a_dry_run_in_json_says_what_would_change(shell, client, file):
    path = file("name: web\nmax_boxes: 3\n")
    would = {"name": "web", "created": True, "changed": ["max_boxes"], "applied": False}
    assert shell.json("project", "apply", path, "--dry-run", status=3) == {"projects": [would]}
    assert shell.json("project", "apply", path) == {"projects": [would | {"applied": True}]}
    same = {"name": "web", "created": False, "changed": [], "applied": False}
    assert shell.json("project", "apply", path) == {"projects": [same]}


def test_applying_an_export_changes_nothing(shell, client, file):
    client.put_project("web", {"jobs": [JOB], "build_branches": [], "fail_fast": ["main"]})
    client.put_project("api", {"cancellation": [["main", "all", {"spare_after": 3}]]})
    for text, name in (
        (shell("project", "export").stdout, "all.yaml"),
        (shell("project", "export", "--json").stdout, "all.json"),
        (shell("project", "export", "web", "api").stdout, "two.yaml"),
    ):
        done = shell("project", "apply", file(text, name), "--dry-run").stdout
        assert sorted(done.splitlines()) == ["api: unchanged", "web: unchanged"]
    assert "there is no project 'x'" in shell("project", "export", "x", status=2).stderr


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
lines = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=30
)
branches = st.sampled_from(["main", "release/*", "1.10", "yes", "010", "2026-01-01", "a b"])
jobs = st.lists(
    st.fixed_dictionaries(
        {"name": names, "commands": st.lists(lines, min_size=1, max_size=3)},
        optional={
            "environment": st.dictionaries(st.sampled_from(["A", "B_2", "on"]), lines, max_size=2),
            "timeout_seconds": st.floats(0.001, 1e6) | st.integers(1, 1000),
            "show_commands": st.booleans(),
            "box_type": st.sampled_from(["default", "mac"]),
            "parallelism": st.integers(2, 5),
        },
    ),
    max_size=3,
    unique_by=lambda job: job["name"],
)
whole = st.fixed_dictionaries(
    {},
    optional={
        "repository": st.just("https://example.org/web.git"),
        "jobs": jobs,
        "clone": st.sampled_from([{}, {"depth": 3}, {"submodules": True}]),
        "servers": st.dictionaries(
            names,
            st.fixed_dictionaries(
                {},
                optional={
                    "jobs": jobs,
                    "branch": st.just("main"),
                    "strategy": st.sampled_from(["manual", "automatic"]),
                    "queue": st.sampled_from(["all", "newest"]),
                    "guard": st.booleans(),
                },
            ).filter(lambda its: its.get("strategy") != "automatic" or its.get("jobs")),
            max_size=2,
        ),
        "priority_branches": st.lists(branches, max_size=3),
        "cancellation": st.lists(
            st.sampled_from([["*", "queued"], ["main", "all", {"spare_after": 2}]]), max_size=2
        ),
        "max_boxes": st.integers(1, 9),
        "fail_fast": st.booleans() | st.lists(branches, max_size=2),
        "build_branches": st.none() | st.lists(branches, max_size=2),
        "pull_requests": st.sampled_from(["none", "own", "forks"]),
        "schedules": st.lists(
            st.fixed_dictionaries(
                {"cron": st.just("0 3 * * *"), "branch": st.just("main")},
                optional={"time_zone": st.just("Europe/Berlin")},
            ),
            max_size=2,
        ),
        "hooks": st.lists(
            st.sampled_from([{"url": "https://example.org/a", "events": ["workload.started"]}]),
            max_size=1,
        ),
    },
).map(
    lambda made: {"repository": "https://example.org/web.git", **made} if "clone" in made else made
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(whole)
def test_applying_an_export_of_any_project_changes_nothing(shell, client, tmp_path, asked):
    client.put_project("any", asked)
    file = tmp_path / "any.yaml"
    file.write_text(shell("project", "export", "any").stdout)
    assert shell("project", "apply", str(file), "--dry-run").stdout == "any: unchanged\n"
    assert client.project_history("any", limit=1).versions[0].version >= 1


def test_an_export_omits_only_default_values():
    for kind, defaults in (
        (requests.ProjectSettings, project_text.DEFAULTS),
        (requests.ServerSettings, project_text.OF_A_SERVER),
        (requests.JobSettings, project_text.OF_A_JOB),
    ):
        required = {"jobs": [], "name": "a", "commands": ["x"]}
        made = kind(**{name: required[name] for name in ("name", "commands")
                       if kind is requests.JobSettings})  # fmt: skip
        for name, default in defaults.items():
            value = getattr(made, name)
            assert (list(value) if isinstance(value, tuple) else value) == default, name
        others = {f for f in kind.__struct_fields__ if f not in {*defaults, "name", "commands"}}
        assert all(not getattr(made, f) for f in others), "null, or not there"


def test_history_shows_author_and_change_and_a_revert_restores_it(shell, client, file):
    path = file("name: web\nmax_boxes: 1\n")
    shell("project", "apply", path)
    file("name: web\nmax_boxes: 2\npriority_branches: [main]\n")
    shell("project", "apply", path)
    heads, second, first = shell("project", "history", "web").stdout.splitlines()
    assert heads.split() == ["VERSION", "CHANGED", "BY", "WHAT"]
    assert second.split()[0] == "2" and second.endswith("admin  priority_branches, max_boxes")
    assert first.endswith("created: max_boxes")
    done = shell("project", "revert", "web").stdout.splitlines()
    assert done[0] == "web: has the settings of version 1 again"
    assert "  -max_boxes: 2" in done and "  +max_boxes: 1" in done
    assert client.project("web").settings["priority_branches"] == []
    assert shell("project", "revert", "web", "--to", "1").stdout == (
        "web: unchanged, it already has the settings of version 1\n"
    )
    shell("project", "revert", "web", "--to", "2")
    diff = shell("project", "history", "web", "--diff", "--limit", "2").stdout
    assert "by admin: back to version 2: " in diff and "by admin: back to version 1: " in diff
    assert diff.count("-max_boxes: 2") == 1 and diff.count("+max_boxes: 2") == 1
    assert [one["version"] for one in shell.json("project", "history", "web")["versions"]] == [
        4, 3, 2, 1,
    ]  # fmt: skip
    assert "no version 77" in shell("project", "revert", "web", "--to", "77", status=2).stderr
    shell("project", "apply", file("name: new\n", "new.yaml"))
    assert "no earlier version" in shell("project", "revert", "new", status=2).stderr


def test_a_revert_warns_of_a_hook_that_comes_back_without_its_secret(shell, file):
    kept = "{url: 'https://a.example/kept', secret: s}"
    lost = "{url: 'https://a.example/lost', secret: s}"
    for hooks in (f"[{kept}, {lost}]", f"[{kept}]"):
        shell("project", "apply", file(f"name: hooked\nhooks: {hooks}\n"))
    warned = shell("project", "revert", "hooked").stderr.splitlines()
    assert warned == [
        "warning: the hook https://a.example/lost is back without a secret: its requests are not "
        "signed until you set its secret"
    ]
    shell("project", "apply", file("name: hooked\n"))
    shell("project", "apply", file(f"name: hooked\nhooks: [{kept}]\n"))
    assert not shell("project", "revert", "hooked").stderr

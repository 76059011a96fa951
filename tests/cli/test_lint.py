"""``boxsched lint`` and ``boxsched build --file``: job files on the command line."""

import json
import subprocess

import pytest
from click.testing import CliRunner

from boxsched.cli import main
from boxsched.job_files import schema

FILE = """
jobs:
  - name: unit
    commands: [make test, make report]
    parallelism: 2
  - name: lint
    commands: ["echo linted"]
    timeout_seconds: 60
"""
WRONG = "jobs:\n  - name: a\n    commands: [x]\n    timeout_seconds: long\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lint(*arguments, status=0, stdin=None):
    ran = CliRunner().invoke(main, ["lint", *arguments], input=stdin)
    assert ran.exit_code == status, (ran.output, ran.exception)
    return ran


def test_lint_shows_the_jobs_that_would_run(folder):
    (folder / ".boxsched.yml").write_text(FILE)
    assert lint().stdout.splitlines() == [
        "JOB       BOX TYPE  LIMIT   COMMANDS",
        "unit 1/2  default   3600 s  make test (and 1 more)",
        "unit 2/2  default   3600 s  make test (and 1 more)",
        "lint      default   60 s    echo linted",
    ]


def test_lint_shows_the_jobs_in_json(folder):
    (folder / "jobs.json").write_text('{"jobs": [{"name": "a", "commands": ["x"]}]}')
    said = json.loads(lint("jobs.json", "--json").stdout)
    assert (said["path"], said["valid"]) == ("jobs.json", True)
    assert said["jobs"] == [
        {
            "name": "a",
            "box_type": "default",
            "timeout_seconds": 3600.0,
            "commands": ["x"],
            "environment": {},
            "show_commands": True,
            "artifacts": [],
            "image": None,
            "retry": None,
        }
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WRONG, ":4:22: jobs[0].timeout_seconds: must be a number"),
        ("jobs:\n  - name: a\n    comands: [x]\n", ":3:5: jobs[0].comands: unknown field; did you"),
        ("jobs:\n  - name: a\n", ":2:5: jobs[0].commands: is missing"),
        ("", ":1:1: the file is empty; it needs a list of jobs"),
        ("jobs: [\n", ":2:1: "),
        ("jobs: [{name: a, name: b}]\n", ":1:18: 'name' occurs twice"),
        ("jobs: !!python/object:os.system {}\n", ":1:7: the tag "),
        ("x: \x1b[31m\n", ":1:4: "),
        ("[" * 40 + "]" * 40, ":1:33: nested deeper than 32 levels"),
        ("x: y\n" * 60_000, ":1:1: it has more than 262144 bytes"),
    ],
)
def test_lint_shows_what_is_wrong_and_where(folder, text, said):
    (folder / "jobs.yml").write_text(text)
    ran = lint("jobs.yml", status=2)
    assert ran.stderr.startswith(f"jobs.yml{said}"), ran.stderr
    assert ran.stdout == ""
    assert "\x1b" not in ran.stderr


def test_lint_shows_what_is_wrong_in_json(folder):
    (folder / "jobs.yml").write_text(WRONG)
    said = json.loads(lint("jobs.yml", "--json", status=2).stdout)
    assert said["valid"] is False
    assert [(one["line"], one["column"]) for one in said["errors"]] == [(4, 22)]


def test_bytes_that_are_not_text_are_refused(folder):
    (folder / "jobs.yml").write_bytes(b"jobs:\n  - \xff\n")
    assert lint("jobs.yml", status=2).stderr == "jobs.yml:2:1: the file is not UTF-8\n"


@pytest.mark.parametrize("path", ["nothing.yml", "."])
def test_an_unreadable_file_is_refused(folder, path):
    assert f"{path}: " in lint(path, status=2).stderr


def test_standard_input_is_read(folder):
    assert "unit 2/2" in lint("-", stdin=FILE).stdout
    assert lint("-", stdin=WRONG, status=2).stderr.startswith("standard input:4:22: ")


def test_the_schema_is_printed(folder):
    assert json.loads(lint("--schema").stdout) == schema.schema()
    assert "--schema cannot be combined" in lint("--schema", "--json", status=2).stderr


# --- build --file -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(shell, tmp_path_factory):
    settings = tmp_path_factory.mktemp("project") / "web.yaml"
    settings.write_text("name: web\njobs: [{name: own, commands: ['true']}]\n")
    shell("project", "apply", str(settings))
    return "web"


def test_a_build_runs_the_jobs_of_a_file(shell, project, folder):
    (folder / ".boxsched.yml").write_text(FILE.replace("make", "echo"))
    done = shell.json("build", project, "--file", ".boxsched.yml", "--branch", "x", "--wait")
    assert [one["name"] for one in done["jobs"]] == ["unit 1/2", "unit 2/2", "lint"]
    assert (done["branch"], done["result"]) == ("x", "passed")


def test_a_build_runs_the_jobs_of_standard_input(shell, project):
    done = shell(
        "build", project, "--file", "-", "--wait", stdin=FILE.replace("make", "false"), status=1
    )
    assert "failed" in done.stdout
    done = shell("build", project, "--file", "-", "--follow", stdin=FILE.replace("make", "echo"))
    assert "linted" in done.stdout


def test_nothing_is_submitted_from_an_invalid_file(shell, project, folder):
    before = shell.json("list")["workloads"]
    (folder / "jobs.yml").write_text(WRONG)
    said = shell("build", project, "--file", "jobs.yml", status=2).stderr
    assert said.startswith("jobs.yml:4:22: jobs[0].timeout_seconds: ")
    assert "nothing.yml: " in shell("build", project, "--file", "nothing.yml", status=2).stderr
    assert shell.json("list")["workloads"] == before


def test_a_build_whose_job_file_is_missing_reports_it_at_its_end(shell, folder, tmp_path):
    git = ("git", "-C", str(tmp_path), "-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "First"], check=True)
    (folder / "planned.json").write_text(
        json.dumps({"name": "planned", "repository": str(tmp_path), "jobs_from": ".ci.yml"})
    )
    shell("project", "apply", "planned.json")
    done = shell("build", "planned", "--branch", "main", "--follow", status=1)
    assert "\n  .ci.yml: " in done.stdout

"""``boxsched artifacts``: lists, downloads, and folders with links in them."""

import hashlib
import os
import subprocess
import sys

import pytest
import yaml

from tests.cli.conftest import environment

BIG = 3_000_000
MAKE = f"mkdir -p dist/x; echo one > dist/a; head -c {BIG} /dev/zero > dist/x/big"
JOBS = [
    {"name": "make", "commands": [MAKE], "artifacts": ["dist"]},
    {"name": "test", "commands": ["echo ok > report.xml"], "artifacts": ["*.xml"]},
    {"name": "lint", "commands": ["true"]},
]


@pytest.fixture(scope="module")
def built(shell, tmp_path_factory):
    file = tmp_path_factory.mktemp("files") / "kept.yaml"
    file.write_text(yaml.safe_dump([{"name": "kept", "jobs": JOBS}]))
    shell("project", "apply", str(file))
    shell("build", "kept", "--branch", "main", "--wait")
    return "kept#1"


def test_all_files_of_a_build_are_listed(shell, built):
    found = shell.json("artifacts", built)["artifacts"]
    assert [(one["path"], one["size"]) for one in found] == [
        ("dist/a", 4),
        ("dist/x/big", BIG),
        ("report.xml", 3),
    ]
    assert found[1]["sha256"] == hashlib.sha256(bytes(BIG)).hexdigest()
    table = shell("artifacts", built).stdout.splitlines()
    assert table[0].split() == ["JOB", "PATH", "BYTES", "SHA256"]
    assert table[1].split()[1:3] == ["dist/a", "4"]


def test_files_are_downloaded_under_their_paths(shell, built, tmp_path):
    job = shell.json("artifacts", built)["artifacts"][0]["job"]
    said = shell("artifacts", job, "--download", str(tmp_path / "out")).stdout
    assert said == f"2 files, {BIG + 4} bytes, in {tmp_path}/out\n"
    assert (tmp_path / "out/dist/a").read_text() == "one\n"
    assert (tmp_path / "out/dist/x/big").read_bytes() == bytes(BIG)
    assert not list((tmp_path / "out").rglob("*.part"))


def test_paths_and_patterns_choose_files(shell, built):
    def chosen(*paths):
        return [one["path"] for one in shell.json("artifacts", built, *paths)["artifacts"]]

    assert chosen("dist/a") == ["dist/a"]
    assert chosen("dist/") == ["dist/a", "dist/x/big"]
    assert chosen("*.xml", "dist/x") == ["dist/x/big", "report.xml"]
    done = shell("artifacts", built, "nothing", status=1)
    assert "has no artifact 'nothing'" in done.stderr


def test_a_job_without_artifacts(shell, built):
    job = shell.json("show", built)["jobs"][2]["id"]
    done = shell("artifacts", job)
    assert (done.stdout, "has no artifacts" in done.stderr) == ("JOB  PATH  BYTES  SHA256\n", True)


def test_no_link_in_the_folder_is_followed(shell, built, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "out/dist").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out/report.xml").symlink_to(tmp_path / "victim")
    assert "cannot write" in shell("artifacts", built, "--download", str(tmp_path / "out"),
                                   status=1).stderr  # fmt: skip
    assert not list((tmp_path / "elsewhere").iterdir())
    shell("artifacts", built, "report.xml", "--download", str(tmp_path / "out"))
    assert (tmp_path / "out/report.xml").read_text() == "ok\n"
    assert (tmp_path / "victim").read_text() == "untouched"


def test_two_files_of_one_path_are_not_mixed(shell, tmp_path):
    jobs = [{"name": n, "commands": [f"echo {n} > f"], "artifacts": ["f"]} for n in "ab"]
    file = tmp_path / "twice.yaml"
    file.write_text(yaml.safe_dump([{"name": "twice", "jobs": jobs}]))
    shell("project", "apply", str(file))
    shell("build", "twice", "--branch", "main", "--wait")
    done = shell("artifacts", "twice#1", "--download", str(tmp_path / "out"), status=2)
    assert "both have f: name one of the jobs" in done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--log-store", "https://x"], "must be a folder or s3://BUCKET[/PREFIX]"),
        (["--log-store", "s3://"], "the name of a bucket has 3 to 63"),
        (["--log-store", "s3://ab_c/x"], "the name of a bucket has 3 to 63"),
        (["--log-store", "s3://abc/x//y"], "a prefix has at most 255 letters"),
        (["--log-store-endpoint", "http://x"], "only with --log-store s3://BUCKET"),
        (["--log-store", "s3://abc", "--log-store-endpoint", "x:9"], "must be http://HOST"),
        (["--log-store", "s3://abc", "--log-store-endpoint", "http://u:p@x"], "no credentials"),
    ],
)
def test_a_bucket_that_cannot_be_one_is_refused(shell, options, reason):
    done = shell("serve", *options, status=2)
    assert reason in done.stderr
    assert "u:p" not in done.stderr


def test_a_bucket_without_the_library_for_it_is_refused(tmp_path):
    """As where only `pip install boxsched` was run: the library is hidden from the command."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('aiobotocore', 'botocore'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    paths = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "boxsched", "serve", "--log-store", "s3://bucket"],
        env={**environment(tmp_path / "data"), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "pip install 'boxsched[s3]'" in done.stderr


def test_logs_show_the_time_before_each_line(shell, built):
    job = shell.json("artifacts", built)["artifacts"][0]["job"]
    (line, *_) = shell("logs", job, "--timestamps").stdout.splitlines()
    stamp, _, text = line.partition(" ")
    assert len(stamp) == len("2026-01-02T03:04:05.006Z")
    assert stamp.endswith("Z")
    assert text.startswith("+ ")
    assert "cannot be combined" in shell("logs", job, "--timestamps", "-f", status=2).stderr

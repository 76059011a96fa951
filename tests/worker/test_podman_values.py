"""The options and environment for podman, and how its answers are read; starts no container."""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boxsched.worker.agent import podman as module
from boxsched.worker.agent.podman import Podman, _environment, _options, podman
from boxsched.worker.supervisor import container as container_module
from boxsched.worker.supervisor.container import Container
from boxsched.worker.supervisor.limits import Limits
from tests.worker.harness import at

NO_PROXIES = "--http-proxy=false"


def pairs(words: Iterable[str]) -> list[tuple[str, str]]:
    """Options with their values; an option with ``=`` has its value there, and is checked here."""
    given = list(words)
    assert [word for word in given if word.startswith("--") and "=" in word] == [NO_PROXIES]
    given.remove(NO_PROXIES)
    if "--memory" not in given:  # podman is not asked afterwards whether memory ran out
        given.remove("--rm")
    assert "--rm" not in given
    return list(zip(given[::2], given[1::2], strict=True))


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)


ALWAYS = [
    ("--ulimit", "nofile=4096:4096"),
    ("--ulimit", "nproc=4096:4096"),
    ("--ulimit", "core=0:0"),
    ("--security-opt", "no-new-privileges"),
    ("--log-driver", "none"),
    ("--network", "none"),
]


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize(
    ("limits", "more"),
    [
        (Limits(), []),
        (Limits(memory=64 << 20), [("--memory", "67108864"), ("--memory-swap", "67108864")]),
        (Limits(cpus=0.5), [("--cpus", "0.5")]),
        (Limits(cpus=2.0), [("--cpus", "2")]),
        (Limits(processes=60), [("--pids-limit", "60")]),
        (Limits(disk=1_000), [("--ulimit", "fsize=1000:1000")]),
    ],
)
def test_a_container_has_the_limits_of_the_worker(
    limits: Limits, more: list[tuple[str, str]]
) -> None:
    assert pairs(_options(False, limits)) == ALWAYS + more


def test_a_container_has_the_network_only_if_jobs_have_it(ordinary: None) -> None:
    assert ("--network", "host") in pairs(_options(True, Limits()))
    assert ("--network", "none") not in pairs(_options(True, Limits()))


def test_root_inside_is_an_ordinary_user_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert pairs(_options(False, Limits())) == [
        *ALWAYS, ("--uidmap", "0:100000:65536"), ("--gidmap", "0:100000:65536"),
    ]  # fmt: skip


def test_podman_gets_only_a_few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/builder")
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    monkeypatch.setenv("BOXSCHED_TOKEN", "secret")
    environment = _environment()
    assert environment.pop("PATH") == module.JOB_PATH
    assert environment == {"HOME": "/home/builder", "https_proxy": "http://proxy:1"}


@pytest.mark.parametrize(("user", "mapped"), [(0, True), (1_000, False)])
def test_each_job_has_a_container_of_its_own_name(
    monkeypatch: pytest.MonkeyPatch, user: int, mapped: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    found = Podman(("/bin/podman", "--runtime", "crun"), (("A", "b"),), ("--cpus", "1"))
    container = found.container("w1-1-1", "debian:13", "always")
    assert container.podman == ["/bin/podman", "--runtime", "crun"]
    assert container.environment == {"A": "b"}
    assert container.options == ["--cpus", "1", "--pull=always"]
    assert (container.name, container.image, container.mapped) == ("w1-1-1", "debian:13", mapped)
    assert found.container("n", "i").options[-1] == "--pull=missing"


@pytest.mark.parametrize(
    ("answer", "status", "names"),
    [
        (
            [{"Names": ["w1-1-1"]}, {"Names": []}, {}, {"Names": ["w2-1-1", "x"]}],
            0,
            ["w1-1-1", "w2-1-1"],
        ),
        ([], 0, []),
        ([{"Names": ["w1-1-1"]}], 125, []),
        (None, 0, []),
    ],
)
def test_the_names_of_all_containers_of_jobs_are_read(
    tmp_path: Path, answer: Any, status: int, names: list[str]
) -> None:
    program, asked = tmp_path / "podman", tmp_path / "asked"
    (tmp_path / "answer").write_text("" if answer is None else json.dumps(answer))
    program.write_text(f'#!/bin/sh\necho "$@" >{asked}\ncat {tmp_path}/answer\nexit {status}\n')
    program.chmod(0o755)
    found = Podman((str(program), "--runtime", "crun"), (("PATH", module.JOB_PATH),), ())
    assert found.names() == names
    assert asked.read_text().startswith("--runtime crun ps --all --filter label=")
    assert Podman((str(tmp_path / "missing"),), (), ()).names() == []


def test_what_podman_lacks_is_said_and_the_next_runtime_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "podman"
    monkeypatch.setattr(module, "program", lambda name: str(tmp_path / name))
    assert podman(network=False, limits=Limits()) == "podman is not installed"
    program.touch(mode=0o755)
    monkeypatch.setattr(module.shutil, "which", lambda name, path: None)
    assert podman(network=False, limits=Limits()) == "neither crun nor runc is installed"
    tried: list[str] = []

    def why_not(found: Podman) -> str | None:
        tried.append(found.command[2])
        return "no" if found.command[2] in failing else None

    monkeypatch.setattr(module, "_why_not", why_not)
    monkeypatch.setattr(module.shutil, "which", lambda name, path: f"/bin/{name}")
    failing = {"crun", "runc"}
    assert podman(network=False, limits=Limits()) == "podman with runc: no"
    failing = {"crun"}
    found = podman(network=False, limits=Limits(processes=5))
    assert isinstance(found, Podman)
    assert found.command[:3] == (str(program), "--runtime", "runc")
    assert found.options[-2:] == ("--pids-limit", "5")
    assert tried == ["crun", "runc", "crun", "runc"]


# --- In the supervisor ------------------------------------------------------------------------


class FakePodman:
    """A program in place of podman: it records its arguments, and answers as told."""

    def __init__(self, folder: Path) -> None:
        self.asked, self.answer, self.failures = folder / "asked", folder / "said", folder / "left"
        self.tell("", 0)
        program = folder / "podman"
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{self.asked}\ncat {self.answer}\n'
            f"n=$(cat {self.failures})\n[ $n -le 0 ] && exit 0\n"
            f"echo $((n - 1)) >{self.failures}\nexit 125\n"
        )
        program.chmod(0o755)
        environment = {"PATH": module.JOB_PATH}
        self.container = Container([str(program), "-x"], environment, ["--cpus", "1"], "w1", "i:1")

    def tell(self, answer: str, failures: int) -> None:
        self.answer.write_text(answer)
        self.failures.write_text(str(failures))
        self.asked.write_text("")

    @property
    def words(self) -> list[str]:
        return self.asked.read_text().splitlines()


@pytest.fixture
def fake(tmp_path: Path) -> FakePodman:
    return FakePodman(tmp_path)


@pytest.mark.parametrize(("mapped", "given", "only"), [(False, "", ":ro"), (True, ":U", ":ro,U")])
def test_a_job_gets_its_box_and_nothing_of_it_is_an_option(
    fake: FakePodman, mapped: bool, given: str, only: str
) -> None:
    container = fake.container._replace(mapped=mapped)
    words = container_module.command(container, "/data/box", "secrets")
    start = words.index("-c")
    assert words[: words.index("-v")] == [
        *container.podman, "run", "--cpus", "1", "--name", "w1", "--label", "boxsched=w1",
    ]  # fmt: skip
    assert [words[at + 1] for at, word in enumerate(words) if word == "-v"] == [
        f"/data/box/workspace:/box/workspace{given}",
        f"/data/box/home:/box/home{given}",
        f"/data/box/tmp:/tmp{given}",
        f"/data/box/script:/box/script{only}",
        f"/data/box/secrets:/box/secrets{only}",
    ]
    assert words[start - 6 : start] == [
        "--workdir", "/box/workspace", "--entrypoint", "", "i:1", "/bin/sh",
    ]  # fmt: skip
    assert words[start + 2 :] == ["/bin/sh", "/box/secrets/.variables", "/box/script"]


def test_a_shell_reads_the_variables_unchanged(tmp_path: Path) -> None:
    values = {"A": 'it\'s "x" $HOME `y`\n\\', "B": "", "É": "no name", "C-D": "no name"}
    container_module.write_variables(at(tmp_path), "secrets", values)
    read = ['. "$0"; printf "%s|" "$A" "$B"; env | grep -c "no name"', ".variables"]
    said = subprocess.run(
        ["/bin/sh", "-c", *read[:1], str(tmp_path / "secrets" / read[1])],
        env={"PATH": module.JOB_PATH}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.stdout == values["A"] + "||0\n"


@pytest.mark.parametrize(
    ("said", "failures", "ran_out"),
    [("true\n", 0, True), ("false\n", 0, False), ("", 0, False), ("true\n", 1, False)],
)
def test_podman_says_whether_a_container_ran_out_of_memory(
    fake: FakePodman, said: str, failures: int, ran_out: bool
) -> None:
    fake.tell(said, failures)
    assert container_module.ran_out_of_memory(fake.container) is ran_out
    assert fake.words == ["-x inspect --format {{.State.OOMKilled}} w1"]


@pytest.mark.parametrize(("failures", "tries"), [(0, 1), (1, 2), (3, 4), (9, 4)])
def test_a_container_in_use_is_removed_a_little_later(
    fake: FakePodman, monkeypatch: pytest.MonkeyPatch, failures: int, tries: int
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(container_module, "time", SimpleNamespace(sleep=pauses.append))
    fake.tell("", failures)
    container_module.remove(fake.container)
    assert fake.words == ["-x rm --force --ignore --time 0 --volumes w1"] * tries
    assert pauses == [0.5] * (tries - 1)


def test_only_an_ordinary_user_takes_the_files_of_a_container_back(
    fake: FakePodman, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in (0, 1_000):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        container_module.give_back(fake.container, "/data/box")
    assert fake.words == ["-x unshare chown -R 0:0 /data/box"]
    gone = fake.container._replace(podman=["/nowhere/podman"])
    assert not container_module.ran_out_of_memory(gone)

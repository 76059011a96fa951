"""The files by which jobs are limited, in ordinary folders; the kernel enforces nothing here."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from boxsched.worker.agent import limiting
from boxsched.worker.agent.limiting import V1, V2
from boxsched.worker.supervisor import limit_probe, limits
from boxsched.worker.supervisor.limits import (
    CPUS,
    MEMORY,
    NO_LIMITS,
    PROCESSES,
    Counter,
    Group,
    Limits,
    Setting,
)

MIB, GIB = 1 << 20, 1 << 30
ALL = Limits(2 * GIB, 1.5, 100, 300 * MIB)


def limited(folder: Path) -> Limits:
    """Limits with all of v2's files in one cgroup."""
    places = dict.fromkeys((MEMORY, CPUS, PROCESSES), (str(folder), V2))
    return ALL._replace(groups=limiting.groups(ALL, places))


def test_the_limits_of_a_job_are_written_into_its_own_cgroup(tmp_path: Path) -> None:
    job = limited(tmp_path).below("w1-1-1")
    group = tmp_path / "w1-1-1"
    assert job.paths == [str(group)]
    with pytest.raises(FileNotFoundError):
        limits.make(job)
    assert group.is_dir(), "it was made, but it is no cgroup"
    for name in ("memory.max", "cpu.max", "pids.max"):
        (group / name).touch()
    limits.make(job)
    found = {file.name: file.read_text() for file in group.iterdir()}
    assert found == {"memory.max": str(2 * GIB), "cpu.max": "150000 100000", "pids.max": "100"}
    (group / "memory.swap.max").touch()
    limits.make(job)
    assert (group / "memory.swap.max").read_text() == "0"


def test_each_hierarchy_of_v1_has_a_group_of_its_own() -> None:
    places = {MEMORY: ("/m", V1), CPUS: ("/c", V1), PROCESSES: ("/m", V1)}
    memory, cpus = limiting.groups(ALL, places)
    assert (memory.path, cpus.path) == ("/m", "/c")
    assert [tuple(one) for one in memory.settings] == [
        ("memory.limit_in_bytes", str(2 * GIB), True),
        ("memory.memsw.limit_in_bytes", str(2 * GIB), False),
        ("pids.max", "100", True),
    ]
    assert [(one.file, one.value) for one in cpus.settings] == [
        ("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000"),
    ]  # fmt: skip
    assert [one.limit for one in memory.counters] == [MEMORY, PROCESSES]


def test_limits_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    for one in (NO_LIMITS, ALL, limited(tmp_path)):
        assert limits.read(json.loads(json.dumps(one))) == one


def test_a_cgroup_names_its_processes(tmp_path: Path) -> None:
    assert limits.processes_in(str(tmp_path)) == []
    for text, found in (("", []), ("12\n0\n\n34\n", [12, 34]), ("x\n", [])):
        (tmp_path / "cgroup.procs").write_text(text)
        assert limits.processes_in(str(tmp_path)) == found


def test_cgroups_are_removed_with_those_below_unless_they_have_processes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "process").touch()
    limits.remove([str(tmp_path / name) for name in ("a", "nowhere", "c")])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["c", "process"]


def counted(folder: Path, **files: str) -> Limits:
    counters = [
        Counter(MEMORY, "memory.events", "oom_kill"), Counter(PROCESSES, "pids.events", "max"),
    ]  # fmt: skip
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    other = Group("/nowhere", [], [Counter(CPUS, "cpu.stat", "nr_throttled")])
    return ALL._replace(groups=[other, Group(str(folder), [], counters)])


def test_a_limit_was_reached_as_often_as_its_cgroup_counts(tmp_path: Path) -> None:
    job = counted(tmp_path, memory_events="oom 7\noom_kill 2\nodd\n", pids_events="max x\n")
    assert limits.times_reached(job, MEMORY) == 2
    assert limits.times_reached(job, PROCESSES) == 0
    assert limits.times_reached(job, CPUS) == 0
    assert limits.times_reached(NO_LIMITS, MEMORY) == 0


@pytest.mark.parametrize(
    ("memory", "processes", "status", "texts"),
    [
        (0, 0, 1, []),
        (1, 0, -9, ["memory limit of 2 GiB"]),
        (0, 3, 1, ["limit of 100 processes"]),
        (0, 0, -signal.SIGXFSZ, ["disk limit of 300 MiB"]),
        (0, 0, 128 + signal.SIGXFSZ, ["disk limit of 300 MiB"]),
        (1, 1, -signal.SIGXFSZ,
         ["memory limit of 2 GiB", "disk limit of 300 MiB", "limit of 100 processes"]),
    ],
)  # fmt: skip
def test_the_limits_that_a_job_reached_are_named(
    tmp_path: Path, memory: int, processes: int, status: int, texts: list[str]
) -> None:
    files = {"memory_events": f"oom_kill {memory}\n", "pids_events": f"max {processes}\n"}
    job = counted(tmp_path, **files)
    assert limits.reached(job, status) == texts
    without = job._replace(memory=None, processes=None, disk=None)
    assert limits.reached(without, status) == [], "what is not limited is not reached"


@pytest.mark.parametrize(
    ("size", "text"),
    [(GIB, "1 GiB"), (GIB - 1, "1024 MiB"), (3 * GIB // 2, "1.5 GiB"), (300 * MIB, "300 MiB")],
)
def test_a_size_has_a_unit(size: int, text: str) -> None:
    assert limits.size_text(size) == text


def test_limits_are_described() -> None:
    assert limits.described(NO_LIMITS) == ""
    assert limits.described(ALL) == (
        "2 GiB of memory, 1.5 processors, 100 processes, 300 MiB of disk"
    )


def proc_of(folder: Path, cgroup: str, mounts: str) -> str:
    folder.mkdir()
    (folder / "cgroup").write_text(cgroup)
    (folder / "mountinfo").write_text(mounts)
    return str(folder)


def test_jobs_of_any_limits_have_their_cgroups_below_these(tmp_path: Path) -> None:
    mounts = (
        "30 24 0:26 / /v2 rw shared:9 - cgroup2 cgroup2 rw\n"
        "31 24 0:27 / /memory rw shared:9 - cgroup cgroup rw,memory\n"
        "32 24 0:28 / /cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    )
    both = proc_of(tmp_path / "both", "0::/us\n5:memory:/m\n4:cpu,cpuacct:/c\n", mounts)
    assert [*limiting.bases(both)] == ["/v2/us", "/memory/m", "/cpu/c"]
    leaf = proc_of(tmp_path / "leaf", f"0::/us/{limiting.LEAF}\n", mounts)
    assert [*limiting.bases(leaf)] == ["/v2/us"]
    old = proc_of(tmp_path / "old", "5:memory:/m\n", mounts)
    assert [*limiting.bases(old)] == ["/memory/m"]
    assert [*limiting.bases(str(tmp_path / "nowhere"))] == []


# --- Whether the kernel enforces them -----------------------------------------------------------


def killed(probe: Limits) -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


def failed(probe: Limits) -> bool:
    raise OSError(1, "not permitted")


@pytest.mark.parametrize(
    ("attempt", "oom", "bites"),
    [
        (lambda probe: True, 0, True),
        (lambda probe: False, 0, False),
        (lambda probe: False, 1, False),
        (killed, 0, False),
        (killed, 1, True),
        (failed, 1, False),
    ],
    ids=["prevented", "allowed", "allowed but counted", "killed", "killed for memory", "failed"],
)
def test_a_limit_bites_if_the_attempt_was_prevented_or_killed_for_memory(
    tmp_path: Path, attempt: Callable[[Limits], bool], oom: int, bites: bool
) -> None:
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "memory.events").write_text(f"oom_kill {oom}\n")
    counter = Counter(MEMORY, "memory.events", "oom_kill")
    probe = Limits(groups=[Group(str(tmp_path), [], [counter])])
    assert limit_probe._runs(attempt, probe) is bites
    assert (tmp_path / "cgroup.procs").read_text() == "0", "it was in the cgroup"


def test_an_attempt_outside_its_cgroup_proves_nothing(tmp_path: Path) -> None:
    probe = Limits(groups=[Group(str(tmp_path / "nowhere"), [], [])])
    assert not limit_probe._runs(lambda probe: True, probe)


def test_a_limit_without_a_cgroup_cannot_be_enforced(tmp_path: Path) -> None:
    assert limit_probe._why_not(MEMORY, NO_LIMITS, ALL) == "there is no cgroup for it"
    setting = [Setting("memory.max", "1")]
    counters = [Counter(MEMORY, "memory.events", "oom_kill")]
    small = Limits(groups=[Group(str(tmp_path), setting, counters)])
    why = limit_probe._why_not(MEMORY, small, NO_LIMITS)
    assert why is not None and why.startswith("No such file or directory: ")
    assert [*tmp_path.iterdir()] == [], "nothing is left of it"

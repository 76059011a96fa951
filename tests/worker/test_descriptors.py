"""What a worker does with its folders leaves no descriptor open: it does it for years."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from boxsched.worker.agent import readiness
from boxsched.worker.agent.attempt import Attempt
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.plan import Worksite
from boxsched.worker.agent.preparing import end_unknown, prepare
from boxsched.worker.agent.site import (
    FolderInUse,
    JobsLeftBehind,
    adopt_all,
    boot_id,
    open_folder,
    refuse_jobs_left_behind,
)
from boxsched.worker.remote import identity as keeping
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import isolation, job_secrets, safe_files
from boxsched.worker.supervisor.folder import Ended
from boxsched.worker.supervisor.safe_files import Damaged
from tests.worker.harness import assigned

OPTIONS = {"cluster": "", "log_limit": 1 << 20, "stop_grace": 10.0}
Count = Callable[[], dict[str, str]]


def opened() -> dict[str, str]:
    """The descriptors of this process, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A folder; what is opened during the test is closed at its end."""
    folder = tmp_path / "data"
    folder.mkdir()
    before = opened()
    yield folder
    assert opened() == before


@pytest.fixture
def site(data: Path) -> Iterator[Worksite]:
    at = safe_files.open_folder(str(data))
    yield Worksite(str(data), at, "", boot_id(), 1 << 20, None, 10.0)
    os.close(at)


def made(site: Worksite, number: int = 1) -> Path:
    """The folder of an attempt that was prepared."""
    attempt = prepare(assigned(number, "true"), site, None)
    assert isinstance(attempt, Attempt)
    attempt.close()
    return Path(attempt.folder.path)


def test_the_identity_of_a_worker(data: Path) -> None:
    with keeping.owned(data), pytest.raises(FolderInUse), keeping.owned(data):
        pass
    assert keeping.identity(data) == keeping.identity(data)
    assert keeping.cluster(data) is None
    keeping.keep_cluster(data, "c")
    assert keeping.cluster(data) == "c"
    (data / keeping.CLUSTER).write_bytes(b"\xff")
    with pytest.raises(keeping.Unusable):
        keeping.cluster(data)


def test_the_folder_of_an_agent(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        folder = open_folder(data, **OPTIONS)  # type: ignore[arg-type]
        with pytest.raises(FolderInUse):
            open_folder(data, **OPTIONS)  # type: ignore[arg-type]
        folder.write_heartbeat(1.0, 2.0)
        folder.empty_trash()
        folder.close()
    monkeypatch.setattr(os, "mkfifo", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "full")))
    (data / files.BELL).unlink()
    with pytest.raises(OSError, match="full"):
        open_folder(data, **OPTIONS)  # type: ignore[arg-type]


def test_attempts_of_an_earlier_agent(site: Worksite) -> None:
    """Good ones, damaged ones, incomplete ones, and some in quarantine already."""
    made(site, 1)
    (made(site, 2) / files.RECORD).write_bytes(b"x")
    (made(site, 3) / files.SENT).write_bytes(b"9 1")
    (Path(site.folder) / "w4-1-1").mkdir()
    (Path(site.folder) / "w5-1-1").touch()
    (Path(site.folder) / "w6-1-1").symlink_to("/etc")
    for _ in range(2):
        attempts, quarantined = adopt_all(site)
        assert [attempt.name for attempt in attempts] == ["w1-1-1"]
        assert sorted(quarantined) == ["w2-1-1", "w3-1-1"]
        for attempt in attempts:
            attempt.close()
    (Path(site.folder) / "quarantine/a file").touch()
    (Path(site.folder) / "quarantine/w2-1-1/why-quarantined").unlink()
    (Path(site.folder) / "quarantine/w2-1-1/why-quarantined").mkdir()
    attempts, quarantined = adopt_all(site)
    assert quarantined["a file"] == quarantined["w2-1-1"] == "damaged"
    for attempt in attempts:
        attempt.close()


def test_a_look_for_jobs_of_another_driver(site: Worksite, data: Path) -> None:
    refuse_jobs_left_behind(data, "")
    refuse_jobs_left_behind(data / "nowhere", "")
    made(site, 1)
    (made(site, 2) / files.RECORD).write_bytes(b"x")
    (data / "w4-1-1").mkdir()
    with pytest.raises(JobsLeftBehind, match=r"\(w1-1-1, w2-1-1\)"):
        refuse_jobs_left_behind(data, "")
    with pytest.raises(JobsLeftBehind, match=r"\(w2-1-1\)"):
        refuse_jobs_left_behind(data, "another")


def test_an_attempt_that_cannot_be_prepared(
    site: Worksite, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(site)
    made(site)  # in place of the first
    assert isinstance(prepare(assigned(2, "\ud800"), site, None), str)
    end_unknown(assigned(3), site)

    def full(at: int, record: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(files, "write_record", full)
    with pytest.raises(OSError, match="Too many"):
        prepare(assigned(4, "true"), site, None)
    assert not (Path(site.folder) / "w4-1-1").exists()


def test_notes_and_locks(site: Worksite, data: Path) -> None:
    lock = safe_files.try_lock(site.at, "lock")
    assert lock is not None
    assert safe_files.try_lock(site.at, "lock") is None
    os.close(lock)
    (data / "folder").mkdir()
    (data / "large").write_bytes(b"x" * (safe_files.NOTE_BYTES + 1))
    os.mkfifo(data / "pipe")
    for name in ("folder", "large", "pipe"):
        with pytest.raises(Damaged):
            note(site.at, name, Ended)
    assert note(site.at, "nothing", Ended) is None
    files.ring(site.at)
    (data / files.BELL).touch()
    files.ring(site.at)
    files.reserve(site.at, "place")
    files.put_text(site.at, "place", "note", "x", durable=True)
    with pytest.raises(FileNotFoundError):
        files.put_text(site.at, "place", "note", "x")
    secret = job_secrets.NO_SECRETS._replace(files={"A": "x"})
    job_secrets.write(site.at, secret)
    assert job_secrets.read(site.at) == secret
    assert job_secrets.write_files(site.at, "/box", secret) == {"A": "/box/secrets/A"}


@pytest.mark.parametrize("programs", [(), ("/bin/true",), ("/nowhere/git",)])
def test_a_check_whether_jobs_can_begin(data: Path, programs: tuple[str, ...]) -> None:
    readiness.check(str(data), programs)
    assert list(data.iterdir()) == []


def test_options_of_bubblewrap_that_cannot_be_given(data: Path) -> None:
    walls = isolation.Isolation(["bwrap"], [])
    file = isolation.options(walls, str(data), 3, "secrets", {"A": "x"})
    os.close(file)
    for name, value in (("", "x"), ("A=B", "x"), ("A", "\0"), ("A", "\ud800"), ("\0", "x")):
        with pytest.raises(OSError, match="Invalid argument"):
            isolation.options(walls, str(data), 3, "secrets", {name: value})


def test_a_released_attempt(site: Worksite) -> None:
    wanted = attrs.evolve(assigned(1, "true"), attempt=2)
    attempt = prepare(wanted, site, None)
    assert isinstance(attempt, Attempt)
    attempt.look()
    assert attempt.next_chunk() is None
    assert attempt.void(Ended("stopped", None, None, False, "stopped", None, 1.0))
    attempt.close()
    attempt.close()

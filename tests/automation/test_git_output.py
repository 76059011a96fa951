"""What is made of git's output and errors, without git."""

import asyncio
from pathlib import Path

import pytest

from boxsched.automation import repositories as module
from boxsched.automation.git_errors import KNOWN, SHOWN_CHARACTERS, Sought, explained
from boxsched.automation.repositories import _environment, _error_line, _failure, _first

BRANCH = Sought("https://h/a", "refs/heads/x")


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("refs/heads/a/b", "branch a/b"),
        ("refs/tags/v1", "tag v1"),
        ("a" * 40, f"commit {'a' * 40}"),
        ("refs/pull/1", "commit refs/pull/1"),
    ],
)
def test_what_was_sought_has_a_name(wanted: str, text: str) -> None:
    assert Sought("x", wanted).text == text
    assert len(Sought("x" * 999, wanted).place) == SHOWN_CHARACTERS == 200


@pytest.mark.parametrize(
    ("said", "sought", "message", "lasting", "missing"),
    [
        ("fatal: Authentication failed for x", BRANCH, "check git_credentials: fatal", True, False),
        ("fatal: returned error: 403", None, "check git_credentials: fatal", True, False),
        ("fatal: couldn't find remote ref refs/heads/x", BRANCH, "no branch x in https://h/a",
         False, True),
        ("fatal: repository 'https://h/a/' not found", BRANCH, "no repository at https://h/a",
         False, True),
        ("fatal: unable to access: server certificate verification failed", BRANCH,
         "GIT_SSL_CAINFO", True, False),
        ("fatal: transport 'ext' not allowed", BRANCH, "git uses https, ssh", True, False),
        ("fatal: unable to access: Could not resolve host: h", BRANCH, "Could not resolve host: h",
         False, False),
        ("fatal: couldn't find remote ref refs/heads/x", None, "remote ref", False, False),
        ("fatal: server certificate verification failed", None, "certificate", False, False),
    ],
)  # fmt: skip
def test_an_error_of_git_has_a_meaning(
    said: str, sought: Sought | None, message: str, lasting: bool, missing: bool
) -> None:
    error = explained(said, sought)
    assert message in error.message
    assert (error.lasting, error.missing) == (lasting, missing)
    assert error.commit is None


def test_a_fetch_that_reached_the_limit_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FETCH_BYTES", 3 << 20)
    packs = tmp_path / "objects" / "pack"
    assert "odd" in _failure(tmp_path, "odd", BRANCH).message, "it fetched nothing"
    packs.mkdir(parents=True)
    (packs / "small").write_bytes(b"x")
    with (packs / "large").open("wb") as file:
        file.truncate((3 << 20) - 1)
    assert "odd" in _failure(tmp_path, "odd", BRANCH).message
    with (packs / "large").open("wb") as file:
        file.truncate(3 << 20)
    error = _failure(tmp_path, "fatal: Authentication failed", BRANCH)
    assert error.message.startswith("git would fetch more than 3 MiB: allow partial clones")
    assert (error.lasting, error.missing) == (True, False)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", ""),
        (b"\n\n", ""),
        (b"hint: a\nlast one\n\n", "last one"),
        (b"warning: a\nfatal:  two   words\nhint: b\n", "fatal: two words"),
        (b"error: first\nfatal: second\n", "error: first"),
        (f"fatal: a\nremote: {KNOWN[0]}\n".encode(), f"remote: {KNOWN[0]}"),
        (b"fatal: \xff\n", "fatal: \ufffd"),
        (b"fatal: " + b"x" * 999, "fatal: " + "x" * 493),
    ],
)
def test_one_line_of_gits_errors_is_shown(text: bytes, line: str) -> None:
    assert _error_line(text) == line


@pytest.mark.parametrize("at_most", [0, 1, 4, 5, 6])
async def test_only_the_first_bytes_are_kept_and_all_are_read(at_most: int) -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"abc")
    reading = asyncio.create_task(_first(stream, at_most))
    await asyncio.sleep(0)
    stream.feed_data(b"de")
    stream.feed_eof()
    assert await reading == b"abcde"[:at_most]
    assert stream.at_eof()


def test_git_gets_little_of_the_nodes_environment_and_never_asks() -> None:
    given = {"PATH": "/bin", "HOME": "/root", "SECRET": "x", "GIT_DIR": "/x", "LC_ALL": "de"}
    found = _environment(given)
    assert (found["PATH"], found["HOME"], found["LC_ALL"]) == ("/bin", "/root", "C")
    assert found["GIT_TERMINAL_PROMPT"] == "0"
    assert not {"SECRET", "GIT_DIR", "USER"} & {*found}

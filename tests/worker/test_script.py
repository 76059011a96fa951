"""Commands are shown in the log before their output; the script's behaviour stays the same."""

import os
import subprocess
from pathlib import Path

import pytest

from boxsched.states import Result
from boxsched.worker.agent import script as scripts
from tests.worker.harness import AgentHarness


def run(tmp_path: Path, *commands: str, show: bool = True) -> tuple[int, str]:
    """Return the script's status and output."""
    path = tmp_path / "script"
    path.write_bytes(scripts.script(commands, show=show))
    done = subprocess.run(
        ["/bin/bash", "-e", path],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode().replace(str(path), "SCRIPT")


async def test_a_log_shows_each_command_before_its_output(harness: AgentHarness) -> None:
    finished = await harness.run("echo one", "printf '%s\\n' \"$SECRET\"", "(exit 3)", "echo four",
                              environment={"SECRET": "hidden"}, show_commands=True)  # fmt: skip
    assert (finished.result, finished.exit_status) == (Result.FAILED, 3)
    assert harness.log().decode().splitlines() == [
        "+ echo one",
        "one",
        "+ printf '%s\\n' \"$SECRET\"",
        "hidden",
        "+ (exit 3)",
    ]


async def test_a_log_shows_no_commands_if_they_are_switched_off(harness: AgentHarness) -> None:
    await harness.run("echo one", "echo two", show_commands=False)
    assert harness.log() == b"one\ntwo\n"


def test_a_command_may_have_several_lines(tmp_path: Path) -> None:
    assert run(tmp_path, "for n in 1 2\ndo echo $n\ndone\n", "echo 'it'\"'\"'s \\n'") == (
        0,
        "+ for n in 1 2\n+ do echo $n\n+ done\n1\n2\n+ echo 'it'\"'\"'s \\n'\nit's \\n\n",
    )


WHOLE_TOGETHER = {
    "a condition": ("if true; then", "echo yes", "fi"),
    "a loop": ("for n in 1 2; do", "echo $n", "done"),
    "a case": ("case x in", "x) echo yes ;;", "esac"),
    "a function": ("f() {", "echo in f", "}", "f"),
    "a here-document": ("cat <<END", "text", "END", "echo after"),
    "a continued line": ("echo a \\", "b", "echo c"),
    "a string": ("echo 'a", "b'"),
    "a subshell": ("(", "cd /", "pwd", ")", "pwd | wc -l"),
    "a list": ("true &&", "echo yes"),
    "a pipe": ("echo yes |", "cat"),
    "a substitution": ('x="$(', "echo in", ')"', 'echo "$x"'),
    "an array": ("a=(", "1", "2", ")", "echo ${a[1]}"),
    "extended globs": ("shopt -s extglob", "echo @(a|b)", "echo c"),
    "a comment": ("# nothing", "echo yes # or so", ""),
    "a broken command": ("echo a", "if )", "echo b"),
    "a function that says what failed": ("set +e", "f() { echo $?; }", "false", "f"),
    "the status before": ("set +e", "(exit 7)", "echo $?", "false", "status=$?", "echo $status"),
    "a status that ends nothing": ("false && true", "echo $?", "! true", "echo $?"),
    "statuses of a pipe": ("false | (exit 5) | true", 'echo "${PIPESTATUS[@]}"'),
    "the last argument": ("true a b", "echo $_"),
    "line numbers": ("true", "echo $LINENO", "true", "nonsense_command"),
    "a trap": ("trap 'echo bye $?' EXIT", "trap 'echo failed at $LINENO' ERR", "true", "false"),
    "an unset variable": ("set -u", "true", "echo $nothing_of_the_kind", "echo unreached"),
    "a closed output": ("echo a", "exec 2>&-", "echo b", "echo c"),
    "an exit": ("echo a", "exit 4", "echo b"),
}


@pytest.mark.parametrize("commands", WHOLE_TOGETHER.values(), ids=WHOLE_TOGETHER)
def test_a_script_does_the_same_whether_its_commands_are_shown_or_not(
    tmp_path: Path, commands: tuple[str, ...]
) -> None:
    status, output = run(tmp_path, *commands, show=False)
    shown_status, shown_output = run(tmp_path, *commands)
    assert shown_status == status
    shown = {f"+ {line}" for command in commands for line in command.split("\n")}
    # Where bash reports an error in a line it quotes the line, with the added command.
    lines = [line for line in shown_output.split("\n") if line not in shown and "`" not in line]
    assert lines == [line for line in output.split("\n") if "`" not in line]
    assert shown_output.startswith(f"+ {commands[0].split(chr(10))[0]}\n")


def test_a_script_that_traces_itself_is_shown_until_then(tmp_path: Path) -> None:
    status, output = run(tmp_path, "echo a", "set -eux", "x=1", "echo b$x")
    assert (status, output) == (0, "+ echo a\na\n+ set -eux\n+ x=1\n+ echo b1\nb1\n")


def test_a_script_with_very_many_commands_is_examined_only_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "MAX_CHECKS", 3)
    _, output = run(tmp_path, *(f"echo {n}" for n in range(6)))
    assert output == "+ echo 0\n0\n+ echo 1\n1\n+ echo 2\n2\n" + (
        "+ echo 3\n+ echo 4\n+ echo 5\n3\n4\n5\n"
    )


@pytest.mark.parametrize(
    ("checks", "size", "parts"),
    [
        (200, 1_000, [["aaaa"], ["bbbb"], ["cccc"], ["dddd"]]),
        (2, 1_000, [["aaaa"], ["bbbb"], ["cccc", "dddd"]]),
        (1, 1_000, [["aaaa"], ["bbbb", "cccc", "dddd"]]),
        (0, 1_000, [["aaaa", "bbbb", "cccc", "dddd"]]),
        (200, 8, [["aaaa"], ["bbbb"], ["cccc"], ["dddd"]]),
        (200, 7, [["aaaa"], ["bbbb"], ["cccc", "dddd"]]),
        (200, 3, [["aaaa"], ["bbbb", "cccc", "dddd"]]),
    ],
)
def test_commands_after_the_last_check_are_shown_together(
    monkeypatch: pytest.MonkeyPatch, checks: int, size: int, parts: list[list[str]]
) -> None:
    """A check begins while fewer were made, and no more than that many bytes were checked."""
    monkeypatch.setattr(scripts, "MAX_CHECKS", checks)
    monkeypatch.setattr(scripts, "MAX_CHECKED_BYTES", size)
    monkeypatch.setattr(scripts, "_is_whole", lambda text: True)
    assert list(scripts._parts(("aaaa", "bbbb", "cccc", "dddd"))) == parts

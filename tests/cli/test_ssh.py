"""``boxsched ssh``: its arguments, its keys, and the commands that enter a session."""

import subprocess

import pytest

from boxsched.cli.ssh import how_to_enter
from boxsched.cli.ssh_keys import BadKey, chosen_key
from boxsched.client.records import SshEndpoint, Workload
from tests.openssh import needs_openssh

HOST_KEY = "ssh-ed25519 AAAA"


def generated(path, passphrase=""):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True
    )
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'PROJECT'"),
        (("web",), "either --branch or --build"),
        (("web", "--branch", "main", "--build", "w1"), "either --branch or --build"),
        (("web", "--proxy", "w1"), "allow no other argument"),
        (("--proxy", "w1", "--host-key", "w1"), "allow no other argument"),
        (("web", "--branch", "main", "--identity", "nowhere"), "cannot read nowhere"),
        (("nothing", "--branch", "main"), "nothing"),
        (("web", "--build", "w999"), "w999"),
    ],
)
def test_wrong_arguments_are_refused(shell, projects, arguments, said):
    assert said in shell("ssh", *arguments, status=2).stderr


def test_a_session_that_is_not_open_is_not_entered(shell, projects):
    for option in ("--proxy", "--host-key"):
        assert "w999" in shell("ssh", option, "w999", status=2).stderr


def test_a_command_is_run_and_its_status_is_passed_on(shell, projects):
    ran = shell.process(
        "ssh", "web", "--branch", "main", "--", "echo", "$BOXSCHED_KIND;", "exit 4", status=4
    )
    assert ran.stdout == "ssh\n"


@needs_openssh
def test_the_key_is_the_named_one_or_a_usual_one_or_new(tmp_path):
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    assert chosen_key(None, home).public != chosen_key(None, home).public
    generated(home / ".ssh/id_ed25519", "locked")
    assert chosen_key(None, home).public != chosen_key(None, home).public
    usual = generated(home / ".ssh/id_rsa")
    assert chosen_key(None, home).public == usual
    named = generated(tmp_path / "named")
    assert chosen_key(tmp_path / "named", home).public == named


@needs_openssh
def test_a_passphrase_is_asked_for_only_in_a_terminal(tmp_path, monkeypatch):
    generated(tmp_path / "locked", "open sesame")
    with pytest.raises(BadKey, match="there is no terminal"):
        chosen_key(tmp_path / "locked")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(BadKey, match=r"wrong passphrase|install bcrypt"):
        chosen_key(tmp_path / "locked", ask=lambda prompt: "please")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-m", "PEM", "-N", "sesame", "-f", tmp_path / "pem"],
        check=True,
    )
    public = " ".join((tmp_path / "pem.pub").read_text().split()[:2])
    assert chosen_key(tmp_path / "pem", ask=lambda prompt: "sesame").public == public
    with pytest.raises(BadKey, match="wrong passphrase"):
        chosen_key(tmp_path / "pem", ask=lambda prompt: "please")
    (tmp_path / "text").write_text("no key")
    with pytest.raises(BadKey, match="contains no private key"):
        chosen_key(tmp_path / "text")


def workload(endpoint):
    values = dict.fromkeys(Workload.__struct_fields__)
    return Workload(**{**values, "id": "w41", "ssh": endpoint, "jobs": ()})


def test_show_says_how_to_enter():
    assert how_to_enter(workload(None)) == []
    through, directly = how_to_enter(
        workload(SshEndpoint(host="10.0.0.7", port=22022, user="box", host_key=HOST_KEY))
    )
    assert through.endswith("ssh --proxy w41' box@w41.boxsched")
    assert directly == "ssh -p 22022 box@10.0.0.7"
    hidden = SshEndpoint(host=None, port=None, user="box", host_key=HOST_KEY)
    assert len(how_to_enter(workload(hidden))) == 1

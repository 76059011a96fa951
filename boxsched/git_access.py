"""Lend one run of git the credentials of a project.

They are in a file in memory (``memfd``), which has no name on any disk and which git inherits. The
file is gone when the last program that has it open ends, also when that is killed. The environment
of git says only which descriptor it is: no environment, argument or configuration has a credential.

A credential helper gives a token for one origin, such as ``https://git.example.org``. So it is sent
to no other host, wherever a redirect or a submodule leads. No other helper is asked, as it could
keep the token. With an SSH key, ssh uses no agent and no other key.

Standard library only, and little of it: supervisors import this module.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

CERTIFICATES = ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH")  # variables that git is passed on with it

# git calls it with one more argument: get, store or erase.
_HELPER = '!f() {{ test "$1" != get || cat /proc/self/fd/{0}; }}; f'
# ssh closes what it inherits, so it opens the file by way of its parent, the shell: which therefore
# has to stay until ssh ends.
_SSH = (
    "f() {{ ssh -i /proc/$$/fd/{0} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes"
    " -o ForwardAgent=no -o ControlPath=none -o ConnectTimeout=30"
    ' "$@"; return $?; }}; f'
)


class GitAccess(NamedTuple):
    """What git needs to read a private repository.

    With ``origin``, ``secret`` is an HTTPS token for that origin, sent with the user name ``user``.
    Without ``origin``, ``secret`` is an SSH key.
    """

    secret: str
    origin: str | None = None
    user: str = ""

    def __repr__(self) -> str:
        return f"GitAccess({self.origin!r})"  # never the secret


@contextlib.contextmanager
def lent(access: GitAccess | None) -> Iterator[tuple[int | None, Mapping[str, str]]]:
    """A descriptor that one run of git has to inherit, and what its environment has to say; None
    and nothing without credentials. After the block only git has the descriptor.

    Raises OSError.
    """
    if access is None:
        yield None, {}
        return
    descriptor = os.memfd_create("git", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)  # ssh refuses a key that others may read
        text = access.secret
        if access.origin is not None:
            text = f"username={access.user}\npassword={access.secret}\n"
        _write(descriptor, text.encode())
        yield descriptor, _environment(descriptor, access.origin)
    finally:
        os.close(descriptor)


def _environment(descriptor: int, origin: str | None) -> dict[str, str]:
    if origin is None:
        return {"GIT_SSH_COMMAND": _SSH.format(descriptor), "GIT_SSH_VARIANT": "ssh"}
    settings = [
        ("credential.helper", ""),  # none of those that were named before
        (f"credential.{origin}.helper", _HELPER.format(descriptor)),
    ]
    environment = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings):
        environment[f"GIT_CONFIG_KEY_{number}"] = name
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]

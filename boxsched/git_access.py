"""Give one run of git the credentials of a project.

They are in a file in memory (``memfd``), which is on no disk and which git inherits. The file
disappears when the last program that has it open exits or is killed. Git's environment contains
only the number of the descriptor: no environment, argument or configuration contains a credential.

A credential helper gives a token for one origin, such as ``https://git.example.org``. So a redirect
or a submodule cannot send it to another host. No other helper is used, because it could store the
token. With an SSH key, ssh uses no agent and no other key.

Standard library only, and little of it: supervisors import this module.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

CERTIFICATES = ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH")  # environment variables that git also gets

# Git calls the helper with one more argument: get, store or erase.
_HELPER = '!f() {{ test "$1" != get || cat /proc/self/fd/{0}; }}; f'
# ssh closes inherited descriptors, so it opens the file through its parent process, the shell. The
# shell must therefore run until ssh ends.
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
def lent(
    access: GitAccess | None, give: Callable[[int], None] = lambda descriptor: None
) -> Iterator[tuple[int | None, Mapping[str, str]]]:
    """Return the descriptor and the environment variables for one run of git.

    Without credentials these are None and no variables. After the ``with`` block only git has the
    descriptor. ``give`` makes the user of git the owner of the file. Raises OSError.
    """
    if access is None:
        yield None, {}
        return
    descriptor = os.memfd_create("git", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)  # ssh refuses a key that others may read
        give(descriptor)
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
        ("credential.helper", ""),  # drop all helpers configured before
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

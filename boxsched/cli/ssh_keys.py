"""The key with which ``boxsched ssh`` enters a session."""

import contextlib
import getpass
import sys
from collections.abc import Callable
from pathlib import Path

import asyncssh
import attrs

from boxsched.texts import encodable

USUAL = ("id_ed25519", "id_ecdsa", "id_rsa")


class BadKey(Exception):
    """The file has no private key that can be used."""


@attrs.frozen
class Key:
    private: asyncssh.SSHKey = attrs.field(repr=False)

    @property
    def public(self) -> str:
        """The public key in OpenSSH's format, without a comment."""
        text = self.private.export_public_key("openssh").decode()
        return " ".join(text.split()[:2])


def chosen_key(
    identity: Path | None,
    home: Path | None = None,
    ask: Callable[[str], str] = getpass.getpass,
) -> Key:
    """Return the key in ``identity``; else a usual one without a passphrase, else a new one.

    Raises BadKey.
    """
    if identity is not None:
        return Key(_read(identity, ask))
    folder = (home or Path.home()) / ".ssh"
    for name in USUAL:
        with contextlib.suppress(OSError, ValueError, asyncssh.Error):
            return Key(asyncssh.read_private_key(folder / name))
    return Key(asyncssh.generate_private_key("ssh-ed25519"))


def _read(identity: Path, ask: Callable[[str], str]) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(identity)
    except OSError as error:
        raise BadKey(f"cannot read {identity}: {error.strerror}") from None
    except asyncssh.KeyEncryptionError:
        raise BadKey(f"{identity}: its encryption is not supported") from None
    except asyncssh.KeyImportError as error:
        if "assphrase" not in str(error):
            raise BadKey(f"{identity} contains no private key") from None
    if not sys.stdin.isatty():
        raise BadKey(f"{identity} has a passphrase, and there is no terminal to ask for it")
    passphrase = ask(f"Passphrase of {identity}: ")
    try:
        return asyncssh.read_private_key(identity, passphrase if encodable(passphrase) else "")
    except asyncssh.KeyEncryptionError as error:
        if "bcrypt" not in str(error):
            raise BadKey(f"{identity}: wrong passphrase") from None
    except asyncssh.KeyImportError:
        raise BadKey(f"{identity}: wrong passphrase") from None
    raise BadKey(
        f"{identity}: to read a key with a passphrase, install bcrypt (`pip install bcrypt`); or "
        "use a key without one, or enter the session with OpenSSH"
    )

"""Checks of a project's ``git_credentials``: messages never quote them."""

import base64
import binascii
import re

from msgspec import UNSET

from boxsched.api.messages.requests import ProjectSettings
from boxsched.errors import Invalid
from boxsched.origins import is_ssh, origin_of

_KEY = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----\n(?P<body>.+)\n-----END (?P=kind)-----\n", re.S
)
_OPENSSH = "OPENSSH PRIVATE KEY"
_PLAIN_OPENSSH = b"openssh-key-v1\0\0\0\0\4none"  # a key without a passphrase begins with this


def check_git_credentials(asked: ProjectSettings) -> None:
    """Raise Invalid if git could not use the credentials."""
    its = asked.git_credentials
    if its is UNSET or its is None:
        return
    if (its.ssh_key is None) == (its.https_token is None):
        raise Invalid("must have exactly one of ssh_key and https_token", "git_credentials")
    if asked.repository is None:
        raise Invalid("need the project's `repository`", "git_credentials")
    if its.ssh_key is not None:
        if not is_ssh(asked.repository):
            raise Invalid("needs a `repository` with an SSH URL", "git_credentials.ssh_key")
        _check_key(tidy(its.ssh_key))
    elif origin_of(asked.repository) is None:
        raise Invalid("needs a `repository` with an https:// URL", "git_credentials.https_token")


def tidy(key: str) -> str:
    """Return the key as ssh reads it: every line ends with a newline, also the last one."""
    return "\n".join(line.rstrip() for line in key.strip().splitlines()) + "\n"


def _check_key(key: str) -> None:
    found = _KEY.fullmatch(key)
    if found is None:
        raise Invalid(
            "must be a private key, from -----BEGIN to -----END", "git_credentials.ssh_key"
        )
    if "ENCRYPTED" in found["kind"] or "ENCRYPTED" in found["body"]:
        locked = True
    elif found["kind"] == _OPENSSH:
        locked = not _decoded(found["body"]).startswith(_PLAIN_OPENSSH)
    else:
        locked = False
    if locked:
        raise Invalid(
            "has a passphrase or is damaged: git cannot use it", "git_credentials.ssh_key"
        )


def _decoded(body: str) -> bytes:
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        return b""

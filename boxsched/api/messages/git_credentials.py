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
_PLAIN_OPENSSH = b"openssh-key-v1\0\0\0\0\4none"  # how a key without a passphrase begins


def check_git_credentials(asked: ProjectSettings) -> None:
    """Raises Invalid where git could do nothing with them."""
    its = asked.git_credentials
    if its is UNSET or its is None:
        return
    if (its.ssh_key is None) == (its.https_token is None):
        raise Invalid("must be one of ssh_key and https_token", "git_credentials")
    if asked.repository is None:
        raise Invalid("need a repository that they are for", "git_credentials")
    if its.ssh_key is not None:
        if not is_ssh(asked.repository):
            raise Invalid("needs a repository that is reached by SSH", "git_credentials.ssh_key")
        _check_key(tidy(its.ssh_key))
    elif origin_of(asked.repository) is None:
        raise Invalid("needs a repository at https://", "git_credentials.https_token")


def tidy(key: str) -> str:
    """A key as ssh reads it: a newline ends each line, the last one too."""
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
            "has a passphrase, or is damaged: git could not use it", "git_credentials.ssh_key"
        )


def _decoded(body: str) -> bytes:
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        return b""

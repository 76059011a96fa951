"""Git credentials of a project: sealed in the store, and opened only for the project's repository.

The sealed text contains the host that a token may be sent to. So when the project's ``repository``
moves to another host, the token is not sent there: the credentials must be set again.
"""

import msgspec

from boxsched.errors import SecretsUnusable
from boxsched.model import ProjectId
from boxsched.origins import is_ssh, origin_of, user_of
from boxsched.protocol.assignments import GitCredentials
from boxsched.secrets.owners import of_project
from boxsched.secrets.vault import Vault
from boxsched.store.steps.secrets import GIT_CREDENTIALS


class ForAnotherHost(SecretsUnusable):
    """The token may not be sent to the repository's host: set it again."""


class _Plain(msgspec.Struct, frozen=True):
    ssh_key: str | None = None
    https_token: str | None = None
    origin: str | None = None  # the repository's host that the token may be sent to


_plain = msgspec.json.Decoder(_Plain)


def plain(repository: str, *, ssh_key: str | None, https_token: str | None) -> str:
    """Return the text to seal."""
    origin = origin_of(repository) if https_token is not None else None
    return msgspec.json.encode(_Plain(ssh_key, https_token, origin)).decode()


def opened(vault: Vault, project: ProjectId, sealed: str, repository: str) -> GitCredentials | None:
    """Return what git gets for the repository; None if its protocol cannot use the credentials.

    Raises SecretsUnusable if the text does not open, or its token is for another host.
    """
    text = vault.open(of_project(project), GIT_CREDENTIALS, 1, sealed)
    found = _plain.decode(text)
    if found.ssh_key is not None:
        return GitCredentials(found.ssh_key) if is_ssh(repository) else None
    if found.https_token is None:
        return None
    origin = origin_of(repository)
    if origin is None:
        return None
    if origin != found.origin:
        raise ForAnotherHost(
            f"git_credentials are for {found.origin}, but the repository is at {origin}: set them "
            "again"
        )
    return GitCredentials(found.https_token, origin, user_of(repository))

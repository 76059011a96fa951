"""The owners of sealed values, as texts that are part of the encryption."""

from collections.abc import Callable

from boxsched.model import ProjectId
from boxsched.secrets.vault import Vault


def of_project(project: ProjectId) -> str:
    return f"project/{project}"


def sealing(vault: Vault, name: str, plain: str) -> Callable[[ProjectId, int], str]:
    """Return a function that seals a project's value when its project and version are known.

    Raises SecretsUnusable at once if the vault has no key.
    """
    assert vault.first

    def seal(project: ProjectId, version: int) -> str:
        return vault.seal(of_project(project), name, version, plain)

    return seal

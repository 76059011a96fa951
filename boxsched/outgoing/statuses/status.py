"""The content of a commit status, independent of the provider."""

import enum
from collections.abc import Mapping

import attrs

MAX_DESCRIPTION_CHARACTERS = 140  # GitHub's limit, the lowest of all


class Shown(enum.Enum):
    """The state of a build, as far as a code host can show it."""

    REGISTERED = "registered"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    STOPPED = "stopped"
    CANCELED = "canceled"


@attrs.frozen
class Status:
    """``context`` is the same for all builds of a project: a newer status replaces an older one.

    ``link``: the URL of the build on our page; None if it is not known.
    """

    shown: Shown
    commit: str
    project: str
    number: int
    branch: str | None
    tag: str | None
    link: str | None

    @property
    def context(self) -> str:
        return f"boxsched/{self.project}"

    @property
    def ref(self) -> str | None:
        return self.branch or self.tag

    @property
    def description(self) -> str:
        said = "waits" if self.shown is Shown.REGISTERED else self.shown.value
        if self.shown is Shown.RUNNING:
            said = "is running"
        return f"build #{self.number} {said}"[:MAX_DESCRIPTION_CHARACTERS]


def without_none(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}

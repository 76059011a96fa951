"""Artifacts and caches: what workers and nodes say of the files of jobs."""

from typing import Annotated

import msgspec

MAX_ARTIFACTS = 1_000  # files of an attempt
MAX_GIVEN = 10_000  # files that a deploy gets of its build
PART_BYTES = 1 << 20  # a request has at most one part of a file
MAX_PATTERNS = 100

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}(?![\\s\\S])")]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class ArtifactFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a workspace: its path there, and its content."""

    path: str
    size: Size
    sha256: Sha256
    executable: bool = False


class ProjectCache(msgspec.Struct, frozen=True):
    """The files that workers keep from job to job of a project."""

    patterns: tuple[str, ...]
    default_branch: str | None = None

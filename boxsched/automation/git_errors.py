"""Interpret git's errors: what is missing, what a person can do, and whether to try again.

git describes errors only in its messages; its exit status is always the same. Errors without a
phrase here (a name server, a connection, an answer such as 503, a full disk) may be temporary, so
git is tried again.
"""

import re

import attrs

SHOWN_CHARACTERS = 200  # limit of a repository's address in messages


class Unreadable(Exception):
    """The file cannot be read. ``lasting``: another attempt would not help.

    ``missing``: the repository answered, but does not have the branch, tag or commit. It may still
    appear after a push, if a code host copies it between machines. ``commit``: the full hash of the
    commit that was read, if it was found.
    """

    def __init__(
        self, message: str, *, lasting: bool, missing: bool = False, commit: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.lasting = lasting
        self.missing = missing
        self.commit = commit


@attrs.frozen
class Sought:
    """The full ref or the commit to fetch, and its repository."""

    repository: str
    wanted: str

    @property
    def place(self) -> str:
        return self.repository[:SHOWN_CHARACTERS]

    @property
    def text(self) -> str:
        for prefix, kind in (("refs/heads/", "branch"), ("refs/tags/", "tag")):
            if self.wanted.startswith(prefix):
                return f"{kind} {self.wanted.removeprefix(prefix)}"
        return f"commit {self.wanted}"


NO_ENTRY = (
    "could not read Username",
    "could not read Password",
    "Authentication failed",
    "Permission denied",
    "Host key verification failed",
    "returned error: 401",
    "returned error: 403",
)
NO_SUCH_REF = ("couldn't find remote ref", "not our ref")
NO_REPOSITORY = (
    "does not appear to be a git repository",
    "epository not found",
    "returned error: 404",
    "returned error: 410",
)
_NOT_FOUND = re.compile(r"repository '[^']*' not found")
# Phrases of other lasting errors, and what to do.
_LASTING = {
    "certificate": "GIT_SSL_CAINFO in the environment of each node names those to trust",
    "not allowed": "git uses https, ssh, and paths or file:// on the node's disk",
    "unadvertised object": (
        "name a branch instead of a commit, or allow uploadpack.allowReachableSHA1InWant on the "
        "repository's server"
    ),
}
KNOWN = (*NO_ENTRY, *NO_SUCH_REF, *NO_REPOSITORY, *_LASTING)


def explained(said: str, sought: Sought | None) -> Unreadable:
    """Return what a line of git's errors means. ``sought``: what was fetched, if anything was."""
    if any(words in said for words in NO_ENTRY):
        return Unreadable(
            f"the repository's server refused git: check git_credentials: {said}", lasting=True
        )
    if sought is None:
        return Unreadable(said, lasting=False)
    if any(words in said for words in NO_SUCH_REF):
        return Unreadable(
            f"there is no {sought.text} in {sought.place}: check the name, or push it first",
            lasting=False, missing=True,
        )  # fmt: skip
    if any(words in said for words in NO_REPOSITORY) or _NOT_FOUND.search(said):
        return Unreadable(
            f"there is no repository at {sought.place}: check the project's repository, and "
            "its git_credentials if it is private",
            lasting=False, missing=True,
        )  # fmt: skip
    for words, advice in _LASTING.items():
        if words in said:
            return Unreadable(f"{said}: {advice}", lasting=True)
    return Unreadable(said, lasting=False)

"""Check names of branches and tags by the rules of ``git check-ref-format``."""

import re

from boxsched.errors import Invalid

# Control characters are refused by the types of requests.
_FORBIDDEN = re.compile(r"[ ~^:?*\[\\\x7f]|\.\.|@\{|//|/\.|\.lock/")
ALLOWED = (
    "git does not allow this name: it must not contain a space, '..', '//', '@{', '\\' or one of "
    "~^:?*[; no part between '/' may begin with '.' or end with '.lock'; "
    "it must not begin with '/' or end with '/' or '.'"
)


def check_branch(name: str | None, field: str) -> None:
    """Raise Invalid if a repository cannot have such a branch."""
    if name == "HEAD":
        raise Invalid("a branch cannot have the name HEAD", field)
    check_tag(name, field)


def check_tag(name: str | None, field: str) -> None:
    """Raise Invalid if a repository cannot have such a tag."""
    if name is None:
        return
    if _FORBIDDEN.search(name) or name.startswith((".", "/")) or name.endswith((".", "/", ".lock")):
        raise Invalid(ALLOWED, field)

"""Names of branches and tags that git can have: the rules of ``git check-ref-format``."""

import re

from boxsched.errors import Invalid

# Control characters are refused by the types of requests.
_FORBIDDEN = re.compile(r"[ ~^:?*\[\\\x7f]|\.\.|@\{|//|/\.|\.lock/")
ALLOWED = (
    "git has no such name: it may hold no space, no '..', '//', '@{' or '\\', and none of ~^:?*[; "
    "no part of it between '/' begins with '.' or ends with '.lock'; "
    "it may not begin with '/', nor end with '/' or '.'"
)


def check_branch(name: str | None, field: str) -> None:
    """Raises Invalid where a repository cannot have such a branch."""
    if name == "HEAD":
        raise Invalid("a branch cannot have the name HEAD", field)
    check_tag(name, field)


def check_tag(name: str | None, field: str) -> None:
    """Raises Invalid where a repository cannot have such a tag."""
    if name is None:
        return
    if _FORBIDDEN.search(name) or name.startswith((".", "/")) or name.endswith((".", "/", ".lock")):
        raise Invalid(ALLOWED, field)

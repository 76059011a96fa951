"""Compare a delivery's repository with the one in a project's settings."""

import re
from urllib.parse import unquote

import attrs

from boxsched.repository import Repository, repository
from boxsched.webhooks.cleaning import line
from boxsched.webhooks.events import ParsedDelivery

# Hosts' names for SSH on the HTTPS port.
_OTHER_NAMES = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}
MAX_SHOWN_CHARACTERS = 200

_PORT = re.compile(":[0-9]+$")


def names_repository(delivery: ParsedDelivery, repository_url: str) -> bool:
    """Whether the payload names this repository, in any form that git accepts.

    Host and path are compared, ignoring case. Protocol, port, user and a final ``.git`` do not
    matter, because one repository can have several of each. Full names, which have no host, count
    only if the payload has no URL. Also true if nothing can be compared: the payload names no
    repository, or the settings name a folder and the payload does not.
    """
    wanted = _parsed(repository_url)
    given = [_parsed(name) for name in delivery.repositories]
    urls = [each for each in given if each.host or each.path.startswith("/")]
    if wanted.path.startswith("/"):
        folders = [each for each in given if each.path.startswith("/")]
        return not folders or wanted in folders
    if urls:
        return wanted in urls
    return not given or any(f"/{wanted.path}".endswith(f"/{each.path}") for each in given)


def shown_repository(delivery: ParsedDelivery) -> str:
    """Return the payload's first name of the repository, shortened and cleaned for a reason."""
    return line(delivery.repositories[0], MAX_SHOWN_CHARACTERS) if delivery.repositories else ""


def _parsed(url: str) -> Repository:
    """Return host and path, normalized. A folder's path begins with a slash."""
    try:
        found = repository(url)
    except ValueError:  # a port or an IPv6 address that is none
        return Repository("", url)
    path = unquote(found.path)
    if not found.host and url.startswith(("/", "file://")):
        return Repository("", f"/{path}")
    host = _PORT.sub("", found.host).lower().rstrip(".")
    return attrs.evolve(found, host=_OTHER_NAMES.get(host, host), path=path.lower())

"""Whether a delivery is about the repository that a project's settings name."""

import re
from urllib.parse import unquote

import attrs

from boxsched.repository import Repository, repository
from boxsched.webhooks.cleaning import line
from boxsched.webhooks.events import Delivery

# Names under which hosts take SSH on the port of HTTPS.
_OTHER_NAMES = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}
MAX_SHOWN_CHARACTERS = 200

_PORT = re.compile(":[0-9]+$")


def names_repository(delivery: Delivery, repository_url: str) -> bool:
    """Whether the payload names this repository, in any of the forms that git takes.

    Host and path are compared, in any case; protocol, port, user and a ``.git`` at the end do not
    matter, as one repository has several of each. Full names, which have no host, count only where
    the payload has no URL. It is also true where nothing can be compared: the payload names no
    repository, or the settings name a folder and the payload none.
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


def shown_repository(delivery: Delivery) -> str:
    """How the payload names its repository first, short and clean enough for a reason."""
    return line(delivery.repositories[0], MAX_SHOWN_CHARACTERS) if delivery.repositories else ""


def _parsed(url: str) -> Repository:
    """With one spelling of host and path. A folder's path begins with a slash."""
    try:
        found = repository(url)
    except ValueError:  # a port or an IPv6 address that is none
        return Repository("", url)
    path = unquote(found.path)
    if not found.host and url.startswith(("/", "file://")):
        return Repository("", f"/{path}")
    host = _PORT.sub("", found.host).lower().rstrip(".")
    return attrs.evolve(found, host=_OTHER_NAMES.get(host, host), path=path.lower())

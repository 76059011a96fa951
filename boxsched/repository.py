"""Find a repository's name at its code host from the URL that git uses."""

import re
from urllib.parse import urlsplit

import attrs

_SCP_LIKE = re.compile(r"(?:[^@/\s]+@)?(\[[^]]+\]|[^:/\s]+):(?!//)(.+)", re.S)


@attrs.frozen
class Repository:
    """``host``: with the port, if its web address has one; "" for a folder.

    ``path``: "owner/name", or longer with groups.
    """

    host: str
    path: str

    @property
    def owner_and_name(self) -> str:
        """The last two parts of the path, for code hosts without nested groups."""
        return "/".join(self.path.split("/")[-2:])


def repository(url: str) -> Repository:
    if "://" in url:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        if parts.scheme == "https" and parts.port:  # a port of ssh is not the API's port
            host = f"{host}:{parts.port}"
        return Repository(host, _path(parts.path))
    scp = None if url.startswith("/") else _SCP_LIKE.fullmatch(url)
    return Repository("", _path(url)) if scp is None else Repository(scp[1], _path(scp[2]))


def _path(text: str) -> str:
    return text.strip("/").removesuffix(".git").strip("/")

"""Find the service and its token when the caller passes none, in the same way as the CLI.

First from ``BOXSCHED_URL`` and ``BOXSCHED_TOKEN_FILE`` or ``BOXSCHED_TOKEN``. Otherwise from the
data folder of the service on this machine (``BOXSCHED_DATA``, by default the user's).
"""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from yarl import URL

from boxsched.client.http import address
from boxsched.client.refusals import Unreachable
from boxsched.errors import Invalid
from boxsched.folders import DataFolder, default_data

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_FILE_BYTES = 65_536


def found(
    url: str | Sequence[str] | None,
    token: str | None,
    environment: Mapping[str, str] = os.environ,
) -> tuple[tuple[str, ...], str | None]:
    """Return (URLs, token); ``url`` and ``token`` take precedence. Token None: none was found.

    Raises Unreachable if no service is found, Invalid if a token in the environment is invalid.
    """
    urls = (url,) if isinstance(url, str) else tuple(url or ())
    urls = urls or several(environment.get("BOXSCHED_URL", ""))
    urls = urls or (_local(_folder(environment)),)
    if token is None:
        token = _from_environment(environment)
    if token is None:  # use the data folder's token only for the service of that folder
        folder = _folder(environment)
        local = folder.listening()
        if local is not None and all(same(each, local.url) for each in urls):
            token = folder.token()
    return urls, token


def _folder(environment: Mapping[str, str]) -> DataFolder:
    given = environment.get("BOXSCHED_DATA")
    return DataFolder(Path(given) if given else default_data(environment))


def several(text: str) -> tuple[str, ...]:
    """Split a text at spaces and commas."""
    return tuple(text.replace(",", " ").split())


def same(one: str, other: str) -> bool:
    """Whether two URLs are of the same service. All names of this machine are equal."""

    def place(url: URL) -> tuple[str, str | None, int | None]:
        host = "loopback" if url.host in LOOPBACK else url.host
        return url.scheme, host, url.port

    return place(address(one)) == place(address(other))


def read_token(token: str | None, file: Path | None) -> str:
    """Return the token. Raises OSError; ValueError if it is invalid or other users can read it."""
    # Files and secret stores often add a newline.
    text = (_of_file(file) if file is not None else token or "").strip()
    if not text:
        raise ValueError("the token is missing")
    if not text.isascii() or not text.isprintable():
        raise ValueError("the token contains characters that are not allowed in a token")
    return text


def _local(folder: DataFolder) -> str:
    starting = folder.starting()
    if starting is not None:
        raise Unreachable(
            f"the service on the data folder {folder.path} has not started yet: "
            f"{starting.waits_for}; it tries again automatically"
        )
    listening = folder.listening()
    if listening is None:
        raise Unreachable(f"no service is running on the data folder {folder.path}; give its URL")
    return listening.url


def _from_environment(environment: Mapping[str, str]) -> str | None:
    text, file = environment.get("BOXSCHED_TOKEN"), environment.get("BOXSCHED_TOKEN_FILE")
    if not text and not file:
        return None
    name = "BOXSCHED_TOKEN_FILE" if file else "BOXSCHED_TOKEN"
    try:
        return read_token(text, Path(file) if file else None)
    except OSError as error:
        raise Invalid(f"cannot read {file}: {error.strerror}", name) from None
    except ValueError as error:
        raise Invalid(str(error), name) from None


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise ValueError(
                f"other users can read it (mode {mode:04o}) and may know the token. Create another "
                f"token; or, if nobody has read it: chmod 600 {path}"
            )
        return file.read(MAX_FILE_BYTES).decode("utf-8")

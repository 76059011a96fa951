"""A token as the command line or the environment gives it: itself, or the file that it is in."""

import os
import stat
from pathlib import Path

import click
from click.core import ParameterSource

MAX_FILE_BYTES = 65_536


def that_counts(token: str | None, file: Path | None) -> tuple[str | None, Path | None]:
    """One of the two: what the command line says before the environment, a file before a text."""
    if token is not None and file is not None:
        source = click.get_current_context().get_parameter_source
        said, silent = source("token"), source("token_file")
        if said is ParameterSource.COMMANDLINE and silent is not ParameterSource.COMMANDLINE:
            return token, None
    return (token, None) if file is None else (None, file)


def read(token: str | None, file: Path | None) -> str:
    """The token; raises OSError, and ValueError where it cannot be one or others can read it."""
    # From a file or a secret's store it often comes with the line's end.
    text = (_of_file(file) if file is not None else token or "").strip()
    if not text:
        raise ValueError("no token is given")
    if not text.isascii() or not text.isprintable():
        raise ValueError("the token has characters that no token has")
    return text


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise ValueError(
                f"others can read it (mode {mode:04o}): they may have the token. Make another "
                f"token, or, if nobody did: chmod 600 {path}"
            )
        return file.read(MAX_FILE_BYTES).decode("utf-8")

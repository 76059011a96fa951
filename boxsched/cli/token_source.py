"""The token of the command line or the environment: its text, or the file that has it."""

from pathlib import Path

import click
from click.core import ParameterSource


def choose(token: str | None, file: Path | None) -> tuple[str | None, Path | None]:
    """Choose text or file: the command line before the environment, a file before a text."""
    if token is not None and file is not None:
        source = click.get_current_context().get_parameter_source
        said, silent = source("token"), source("token_file")
        if said is ParameterSource.COMMANDLINE and silent is not ParameterSource.COMMANDLINE:
            return token, None
    return (token, None) if file is None else (None, file)

"""A token as the command line or the environment gives it: itself, or the file that it is in."""

from pathlib import Path

import click
from click.core import ParameterSource


def that_counts(token: str | None, file: Path | None) -> tuple[str | None, Path | None]:
    """One of the two: what the command line says before the environment, a file before a text."""
    if token is not None and file is not None:
        source = click.get_current_context().get_parameter_source
        said, silent = source("token"), source("token_file")
        if said is ParameterSource.COMMANDLINE and silent is not ParameterSource.COMMANDLINE:
            return token, None
    return (token, None) if file is None else (None, file)

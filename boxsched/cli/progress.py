"""Show the progress of a long command: one line, only on a terminal."""

import sys

import click

from boxsched.cli.clean import plain


class ProgressLine:
    """A line on standard error, which is removed when the ``with`` block ends."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.say("")

    def say(self, text: str) -> None:
        if self._shows:
            click.echo(f"\r\x1b[K{plain(text)}", nl=False, err=True)

    def rows(self, table: str, done: int, total: int) -> None:
        self.say(f"{table}: {done:,} of {total:,} rows")

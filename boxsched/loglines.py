"""The service's and the worker's own log on standard error: no value in a line can forge another.

Names, headers, frames and the messages of exceptions come from outside. A newline in one would
begin another line, an escape sequence would control the reader's terminal, and a bidirectional
control would change the order of the characters. So this module, and no other, writes all
characters that are not printable as escapes.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MAX_LINE_CHARACTERS = 8_192
MAX_CHAIN = 10  # exceptions in one traceback, with causes and groups

ErrorInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def log_to_stderr(level: int, stream: TextIO | None = None) -> None:
    """Set up logging for this process, once."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Formatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])


def escape_by_default() -> None:
    """Escape warnings also in commands that set up no logging."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Formatter("%(message)s"))


def escaped(text: str) -> str:
    """Return the text as one line of limited length that is safe on a terminal."""
    if len(text) > MAX_LINE_CHARACTERS:
        text = f"{text[:MAX_LINE_CHARACTERS]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    # Not printable: controls, bidi and other format characters, separators, lone surrogates.
    return "".join([one if one.isprintable() else ascii(one)[1:-1] for one in text])


class Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaped(super().formatMessage(record))

    def formatException(self, ei: ErrorInfo) -> str:
        return "\n".join(_formatted(ei[1], MAX_CHAIN)) if ei[1] is not None else ""


def _formatted(error: BaseException, left: int) -> Iterator[str]:
    """Format like Python's traceback, but with each exception's message as one escaped line."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and left > 1:
        yield from _formatted(before, left - 1)
        direct = error.__cause__ is not None
        yield "The above exception was the direct cause of:" if direct else "While handling it:"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        for frame in traceback.extract_tb(error.__traceback__).format():
            yield from map(escaped, frame.rstrip("\n").split("\n"))
    yield escaped(f"{_name(type(error))}: {_message(error)}")
    for note in getattr(error, "__notes__", ()):
        yield escaped(str(note))
    if isinstance(error, BaseExceptionGroup):
        for number, one in enumerate(error.exceptions[: max(0, left - 1)], 1):
            yield f"Exception {number} of {len(error.exceptions)} in the group:"
            yield from _formatted(one, left - 1)


def _name(kind: type[BaseException]) -> str:
    ours = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if ours else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 (any class may have a __str__ that raises)
        return f"<its message cannot be made: {type(broken).__name__}>"

"""Read a large delivery in a separate process.

Parsing 20 MiB of JSON in one call takes up to 0.1 s and blocks all threads of the process, so even
in a thread it would block the node's event loop. The process is started for one body, after its
signature was checked. It has limits of memory and time, and none of the node's environment
variables. It reads a line of JSON and the body, and answers with JSON.
"""

import contextlib
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from multidict import CIMultiDict

import boxsched
from boxsched.errors import BoxschedError, Invalid, Malformed, StoreAway
from boxsched.webhooks.events import (
    BranchDeleted,
    ChangeRequest,
    Event,
    Ignored,
    ParsedDelivery,
    Push,
    TagPush,
)
from boxsched.webhooks.headers import Headers
from boxsched.webhooks.reading import read

log = logging.getLogger(__name__)

# limit of address space: several times what the worst body of 25 MiB needs
MAX_MEMORY_BYTES = 1 << 30
MAX_SECONDS = 30  # limit of processor time: many times what the worst body needs
MAX_ERROR_OUTPUT_BYTES = 4_096  # how much of its error output is logged

_ROOT = str(Path(boxsched.__file__).resolve().parent.parent)
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from boxsched.webhooks.apart import main; main()"
_EVENTS: Mapping[str, type[Event]] = {
    kind.__name__: kind for kind in (Push, TagPush, BranchDeleted, ChangeRequest, Ignored)
}
_REFUSALS: Mapping[str, type[BoxschedError]] = {
    kind.__name__: kind for kind in (Malformed, Invalid)
}


def read_apart(provider: str, headers: Headers, body: bytes) -> ParsedDelivery:
    """Return or raise the same as ``reading.read``. Blocking: call it in a thread.

    Raises StoreAway if the process cannot be started or is killed.
    """
    away = StoreAway("the service cannot read it at the moment: send it again")
    asked = json.dumps([provider, list(headers.items())]).encode() + b"\n"
    try:
        process = _started()
    except OSError as error:
        log.error("cannot start a process to read a large delivery: %s", error.strerror)
        raise away from error
    with process:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            for part in (asked, body):
                _write(pipe.fileno(), part)
        said = process.stdout.read()
    if process.returncode:
        text = said[-MAX_ERROR_OUTPUT_BYTES:].decode("utf-8", "replace")
        log.error("a large delivery was not read: status %d, %s", process.returncode, text)
        raise away
    return _decoded(json.loads(said))


def _started() -> "subprocess.Popen[bytes]":
    environment = {"PATH": os.defpath}
    if "LD_LIBRARY_PATH" in os.environ:  # the interpreter may need it
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    places = [_ROOT, *(place for place in sys.path if os.path.isabs(place))]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, *places],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment, cwd="/", start_new_session=True, bufsize=0,
    )  # fmt: skip


def _write(descriptor: int, data: bytes) -> None:
    """Write in as few calls as possible: after each call the thread waits for its turn."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _decoded(said: Any) -> ParsedDelivery:
    kind, fields = said
    if kind in _REFUSALS:
        raise _REFUSALS[kind](*fields)
    happened = tuple([_EVENTS[name](**values) for name, values in fields.pop("events")])
    repositories = tuple(fields.pop("repositories"))
    return ParsedDelivery(**fields, repositories=repositories, events=happened)


def main() -> None:
    """Run in the separate process: read a delivery, and write the answer."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    provider, headers = json.loads(sys.stdin.buffer.readline())
    body = sys.stdin.buffer.read()
    sys.stdout.write(json.dumps(_answer(provider, CIMultiDict(headers), body)))


def _answer(provider: str, headers: Headers, body: bytes) -> list[object]:
    try:
        delivery = read(provider, headers, body)
    except (Malformed, Invalid) as error:
        return [type(error).__name__, [error.message, error.field]]
    fields = attrs.asdict(delivery, recurse=False)
    fields["events"] = [[type(one).__name__, attrs.asdict(one)] for one in delivery.events]
    return ["Delivery", fields]

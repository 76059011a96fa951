"""Whether the time of a refused delivery tells which projects there are, or of a secret.

    python -m tests.bench.refused_deliveries [--samples N] [--database URL]

Sends deliveries that are refused to one service, in random order over some connections: to projects
with a webhook secret, with two, without one, and to none; signed in wrong ways, also with half of
the right signature. All are answered in the same words. Prints for each what it takes, and how far
it is from the one that it must not differ from: the difference of the medians, and z of the rank
sum test. |z| below 3 over 10,000 samples: no difference is seen. Needs a quiet machine.
"""

import argparse
import asyncio
import math
import random
import tempfile
import time
from pathlib import Path

import attrs

from tests.faults.service import Service
from tests.service.code_hosts import signature

CONNECTIONS = 8
SECRET, BEFORE = "the secret of it", "the secret before"
BODY = b'{"ref": "refs/heads/main", "after": "' + b"a" * 40 + b'", "x": "' + b"x" * 8_000 + b'"}'
RIGHT = signature(BODY, SECRET)
WRONG = signature(BODY, "another secret")
HEADERS = {
    "wrong secret": f"X-Hub-Signature-256: sha256={WRONG}\r\n",
    "half of the right": f"X-Hub-Signature-256: sha256={RIGHT[:32]}{WRONG[32:]}\r\n",
    "upper case": f"X-Hub-Signature-256: sha256={RIGHT.upper()}\r\n",
    "SHA-1": f"X-Hub-Signature-256: sha1={RIGHT[:40]}\r\n",
    "no signature": "X-Hub-Signature: x\r\n",
}
WITH, COLD, TWO, NONE, NO_PROJECT = "with-one", "not-seen", "with-two", "has-none", "is-no-on"
PROJECTS = (WITH, COLD, TWO, NONE, NO_PROJECT)


@attrs.frozen
class Kind:
    """A request, and the other request whose timing must not differ from it."""

    project: str
    form: str
    like: tuple[str, str] | None = None

    @property
    def bytes(self) -> bytes:
        head = (
            f"POST /webhooks/github/{self.project} HTTP/1.1\r\nHost: x\r\n{HEADERS[self.form]}"
            f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        )
        return head.encode() + BODY


# For each form, the unknown project is the reference.
KINDS = [
    Kind(project, form, None if project == NO_PROJECT else (NO_PROJECT, form))
    for form in HEADERS
    for project in (PROJECTS if form == "wrong secret" else (WITH, NO_PROJECT))
]
BY_PREFIX = ((WITH, "half of the right"), (WITH, "wrong secret"))


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> tuple[float, bytes]:
        """Seconds until the answer is there, and its status line with the body."""
        began = time.perf_counter()
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        took = time.perf_counter() - began
        (length,) = [
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        return took, head.partition(b"\r\n")[0] + await self._reader.readexactly(length)


def rank_sum_z(one: list[float], other: list[float]) -> float:
    """Return how many standard deviations the ranks of ``one`` are above those of ``other``."""
    merged = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, which) in enumerate(merged, 1) if which == 0)
    n, m = len(one), len(other)
    mean, deviation = n * (n + m + 1) / 2, math.sqrt(n * m * (n + m + 1) / 12)
    return (ranks - mean) / deviation


def quantile(values: list[float], part: float) -> float:
    return 1e6 * sorted(values)[int(len(values) * part)]


async def measured(service: Service, samples: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each kind of request; all are refused in the same words."""
    for project in PROJECTS:
        secrets = {TWO: (BEFORE, SECRET), NONE: (None,)}.get(project, (SECRET,))
        for secret in () if project == NO_PROJECT else secrets:
            await service.put_project(project, jobs=[], webhook_secret=secret)
    host, port = service.url.removeprefix("http://").rsplit(":", 1)
    connections = [
        Connection(*await asyncio.open_connection(host, int(port))) for _ in range(CONNECTIONS)
    ]
    for project in (WITH, TWO, NONE):  # the service has the first two's settings in memory
        right = Kind(project, "wrong secret").bytes.replace(WRONG.encode(), RIGHT.encode())
        await connections[0].ask(right)
    found: dict[tuple[str, str], list[float]] = {(one.project, one.form): [] for one in KINDS}
    said: set[bytes] = set()
    chance = random.Random(7)

    async def ask(connection: Connection, rounds: int) -> None:
        for round_ in range(-10, rounds):
            for kind in chance.sample(KINDS, len(KINDS)):
                took, answer = await connection.ask(kind.bytes)
                said.add(answer)
                if round_ >= 0:
                    found[kind.project, kind.form].append(took)

    await asyncio.gather(*(ask(one, samples // CONNECTIONS) for one in connections))
    (only,) = said
    assert only.startswith(b"HTTP/1.1 401"), only
    return found


async def main(samples: int, database: str | None) -> None:
    with tempfile.TemporaryDirectory() as data:
        options = ("--boxes", "0", *(("--database", database) if database else ()))
        service = Service(Path(data), *options)
        service.start()
        try:
            found = await measured(service, samples)
        finally:
            service.stop()
    pairs = [((one.project, one.form), one.like) for one in KINDS] + [BY_PREFIX]
    for one, like in pairs:
        spread = ", ".join(f"{quantile(found[one], part):.0f}" for part in (0.1, 0.5, 0.9))
        text = f"{one[1]:18} {one[0]:9} {spread} us (10 %, median, 90 %)"
        if like is not None:
            difference = quantile(found[one], 0.5) - quantile(found[like], 0.5)
            z = rank_sum_z(found[one], found[like])
            text += f"; {difference:+.1f} us, z {z:+.1f} against {' '.join(like)}"
        print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--database", metavar="URL", help="an empty one [default: SQLite]")
    options = parser.parse_args()
    asyncio.run(main(options.samples, options.database))

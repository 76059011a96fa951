"""What jobs said over TCP while they ran, so that isolated jobs can say it, too."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import attrs

# Prints as many lines as its first argument says, in bursts with pauses; says its start and its
# end to the recorder. $RANDOM and the pauses make the moments of kills differ.
_SCRIPT = r"""
say() {{
  exec 3<> /dev/tcp/127.0.0.1/{port}
  echo "$BOXSCHED_JOB $BOXSCHED_ATTEMPT $BOXSCHED_LEASE_TOKEN $1" >&3
  read -r answer <&3
  exec 3>&-
}}
say begin
exec 9<> <(:)
for ((i = 0; i < {lines}; i++)); do
  echo "$BOXSCHED_JOB line $i of {lines}"
  ((i % {burst})) || read -rt "0.0$((RANDOM % 10))" -u 9 || :
done
say end
"""


@attrs.define
class Attempts:
    """Counts what jobs said: by (job, attempt, lease token), and "begin" or "end"."""

    port: int = 0
    said: Counter[tuple[str, str, str, str]] = attrs.field(factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if line := await reader.readline():
                job, attempt, token, what = line.decode().split()
                self.said[job, attempt, token, what] += 1
                writer.write(b"ok\n")
                await writer.drain()
        writer.close()

    def script(self, lines: int, burst: int) -> str:
        """Return a command for a job; about 0.05 s for each ``burst`` of lines."""
        return _SCRIPT.format(port=self.port, lines=lines, burst=burst)

    @staticmethod
    def log_of(job: str, lines: int) -> str:
        return "".join(f"{job} line {number} of {lines}\n" for number in range(lines))

    def of(self, job: str) -> dict[tuple[str, str], int]:
        """Return how often each attempt of the job said what: by (attempt, what)."""
        found: Counter[tuple[str, str]] = Counter()
        for (name, attempt, _, what), count in self.said.items():
            if name == job:
                found[attempt, what] += count
        return dict(found)


@contextlib.asynccontextmanager
async def attempts() -> AsyncIterator[Attempts]:
    recorder = Attempts()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()

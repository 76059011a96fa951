"""A real service as a subprocess: started, killed, started again on the same data folder."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import Queue
from typing import Any

import aiohttp

START_SECONDS = 60


class Service:
    """``url`` and ``token`` are there once ``start`` has returned."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.options = options
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.said: list[str] = []

    @property
    def token(self) -> str:
        return (self.data / "admin-token").read_text().strip()

    def start(self) -> None:
        """Return when it listens; raise AssertionError with its output if it ends."""
        command = [sys.executable, "-m", "boxsched", "serve", "--data", str(self.data)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # jobs write into the test's folder
            env={**os.environ, "PYTHONUNBUFFERED": "1", "BOXSCHED_BOX_DRIVER": "process"},
        )
        heard: Queue[str | None] = Queue()
        threading.Thread(target=self._listen, args=(self.process, heard), daemon=True).start()
        while (line := heard.get(timeout=START_SECONDS)) is not None:
            if line.startswith("listening on "):
                self.url = line.split()[-1]
                return
        raise AssertionError("the service ended: " + "".join(self.said[-20:]))

    def _listen(self, process: "subprocess.Popen[str]", heard: "Queue[str | None]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line)
            heard.put(line)
        heard.put(None)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, sign: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(sign)
        return self.process.wait(timeout=60)

    def client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def get(self, path: str) -> Any:
        async with self.client() as client, client.get(f"/api/v1/{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def put_project(self, name: str, **settings: Any) -> None:
        path = f"/api/v1/projects/{name}"
        async with self.client() as client, client.put(path, json=settings) as answer:
            assert answer.status in (200, 201), await answer.text()

    async def until_idle(self) -> None:
        """Return when nothing is unfinished, according to the events."""
        async with self.client() as client:
            stream = aiohttp.ClientTimeout(total=120)
            cursor = (await self.get("activity"))["cursor"]
            events = client.get("/api/v1/events", headers={"Last-Event-ID": cursor}, timeout=stream)
            async with events as answer:
                while True:
                    activity = await self.get("activity")
                    if not (activity["upcoming"] or activity["blocked"] or activity["running"]):
                        return
                    await answer.content.readline()

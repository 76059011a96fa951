"""A real service for the browser, and its API for the tests."""

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

GATES = ("--box-driver", "process")  # jobs look into the scratch folder
BOXES = 2
STOP_SECONDS = 20
FINISHED_SECONDS = 60

Json = dict[str, Any]


@attrs.frozen
class Service:
    host: str
    port: int
    token: str
    scratch: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def call(
        self, method: str, path: str, body: Json | None = None, *, also: Sequence[int] = ()
    ) -> Json:
        """Call the API as admin; any status but 2xx or ``also`` fails the test."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/api/v1{path}", data, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        well = 200 <= response.status < 300 or response.status in also
        assert well, (method, path, response.status, text)
        return json.loads(text) if text.strip() else {}

    def project(self, name: str, **settings: object) -> None:
        self.call("PUT", f"/projects/{name}", {"jobs": [job("unit", "true")], **settings})

    def build(self, project: str, branch: str, *jobs: Json, **more: object) -> str:
        """Submit a build; return its id."""
        body = {"branch": branch, **({"jobs": list(jobs)} if jobs else {}), **more}
        return str(self.call("POST", f"/projects/{project}/builds", body)["id"])

    def workload(self, workload: str) -> Json:
        return self.call("GET", f"/workloads/{workload}")

    def finished(self, workload: str) -> None:
        """Return when it has finished, according to the server's event stream."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Last-Event-ID": self._now()}
            connection.request("GET", "/api/v1/events", headers=headers)
            events = connection.getresponse()
            if self.workload(workload)["state"] == "finished":
                return
            until = time.monotonic() + FINISHED_SECONDS
            for line in events:
                assert time.monotonic() < until, f"{workload} does not finish"
                told = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if (told.get("type"), told.get("workload")) == ("workload.finished", workload):
                    return
        finally:
            connection.close()
        raise AssertionError(f"the events ended before {workload} did")

    def _now(self) -> str:
        return str(self.call("GET", "/activity")["cursor"])

    def gate(self, name: str) -> "Gate":
        return Gate(self.scratch / name)

    def stop_everything(self) -> None:
        """End everything that would wait or run in the next test."""
        for row in self.rows("upcoming", "blocked", "running"):
            if row["state"] != "stopping":
                self.call("POST", f"/workloads/{row['id']}/stop", also=[409])

    def rows(self, *lists: str) -> Sequence[Json]:
        activity = self.call("GET", "/activity")
        return [row for name in lists for row in activity[name]]


@attrs.frozen
class Gate:
    """A job that runs until the test lets it end."""

    file: Path

    @property
    def commands(self) -> list[str]:
        return [f"while [ ! -e '{self.file}' ]; do sleep 0.05; done", "echo the gate is open"]

    def open(self) -> None:
        self.file.touch()


def job(name: str, *commands: str) -> Json:
    """Its log contains only its own output."""
    return {"name": name, "commands": list(commands), "show_commands": False}


@contextmanager
def serving(*options: str) -> Iterator[Service]:
    """Run ``boxsched serve`` in its own folder, on a free port."""
    with tempfile.TemporaryDirectory(prefix="boxsched-browser-") as folder:
        data, scratch = Path(folder, "data"), Path(folder, "scratch")
        scratch.mkdir()
        log = Path(folder, "service.log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "boxsched", "serve", "--data", data, "--port", "0",
                 "--boxes", str(BOXES), *GATES, *options],
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        try:
            host, port = _address(process, log)
            token = (data / "admin-token").read_text().strip()
            yield Service(host, port, token, scratch)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _address(process: "subprocess.Popen[str]", log: Path) -> tuple[str, int]:
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"listening on http://(.+):(\d+)", line)
        if found:
            return found[1], int(found[2])
    raise AssertionError(f"the service ended before it listened:\n{log.read_text()}")


# Hostile texts: none of them may ever have an effect.
HOSTILE: Mapping[str, str] = {
    "image": "<img src=x onerror=alert(1)>",
    "script": "<script>alert(1)</script>",
    "closing script": "</script><script>alert(1)</script>",
    "svg": "<svg onload=alert(1)>",
    "svg in svg": "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "iframe": "<iframe srcdoc='<script>parent.alert(1)</script>'>",
    "attribute": '" onmouseover=alert(1) autofocus onfocus=alert(1) x="',
    "attribute, single": "' onfocus='alert(1)' autofocus='",
    "link": "<a href=javascript:alert(1)>click</a>",
    "address": "javascript:alert(1)//",
    "style": "<style>*{background:url(//example.invalid/x)}</style>",
    "base": "<base href=//example.invalid/>",
    "meta": "<meta http-equiv=refresh content='0;url=//example.invalid'>",
    "object": "<object data=//example.invalid/x>",
    "details": "<details open ontoggle=alert(1)>",
    "textarea": "</textarea></title></style><img src=x onerror=alert(1)>",
    "template": "{{constructor.constructor('alert(1)')()}}${alert(1)}",
    "entities": "&lt;img src=x onerror=alert(1)&gt;&#60;script&#62;",
    "comment": "x --><img src=x onerror=alert(1)><!--",
    "math": "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "prototype": "__proto__",
    "bidi": "main\u202egnp.live\u2066x\u2069",
}

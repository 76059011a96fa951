"""Projects with git credentials, and where a credential can be found."""

import base64
import contextlib
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.service.running_service import API, RunningService

TOKEN = "canary-51c0+token/7q"


FORMS = [
    TOKEN.encode(),
    urllib.parse.quote(TOKEN, safe="").encode(),
    *(base64.b64encode(b"x" * n + TOKEN.encode())[4:-4] for n in range(3)),
]


FILE = "jobs: [{name: show, commands: [cat which, git submodule status], show_commands: false}]\n"


PRIVATE_FILES = {"which": "private code\n", "__boxsched__yml": FILE}


async def project(service: RunningService, url: str, **settings: Any) -> None:
    settings = {"git_credentials": {"https_token": TOKEN}, "jobs": [], **settings}
    if not settings["jobs"]:
        settings.setdefault("jobs_from", ".boxsched.yml")
    answer = await service.project(repository=url, **settings)
    assert answer.status in (200, 201), answer.body
    assert b"canary" not in answer.body


async def ended(service: RunningService, **asked: Any) -> tuple[dict[str, Any], str]:
    """Return a finished build and the log of its first job."""
    return await log_of(service, await service.finished((await service.build(**asked))["id"]))


async def log_of(service: RunningService, done: dict[str, Any]) -> tuple[dict[str, Any], str]:
    if not done["jobs"]:
        return done, ""
    log = await service.call("GET", f"{API}/jobs/{done['jobs'][0]['id']}/log")
    return done, log.body.decode()


def files_with(folder: Path, words: list[bytes]) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            with contextlib.suppress(OSError):
                if path.is_file() and any(word in path.read_bytes() for word in words):
                    yield path


def processes_with(words: list[bytes]) -> list[str]:
    """Return programs whose arguments or environment contain one of the words."""
    found = []
    for name in ("cmdline", "environ"):
        for path in Path("/proc").glob(f"[0-9]*/{name}"):
            with contextlib.suppress(OSError):
                if any(word in path.read_bytes() for word in words):
                    found.append(str(path))
    return found

"""Checks openapi.json against the service with schemathesis, including stateful checks.

The suite's seed is fixed; ``--schemathesis-seconds N`` runs for N seconds with a new seed. The
deviations and their reasons are in schemathesis.toml.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.service.running_service import API, RunningService, job

CONFIG = Path(__file__).with_name("schemathesis.toml")
SEED = 7
EXAMPLES = 6  # for each call and phase
SECONDS_A_REQUEST = 60  # a busy machine must not make a request fail


async def schemathesis(
    service: RunningService, tmp_path: Path, token: str, phases: str, *, seconds: int
) -> str:
    """Return schemathesis's output; the run must find nothing."""
    description = tmp_path / "openapi.json"
    description.write_bytes((await service.call("GET", f"{API}/openapi.json")).body)
    program = shutil.which("st", path=str(Path(sys.executable).parent))
    assert program is not None
    bound = ["--max-time", str(seconds)] if seconds else ["--seed", str(SEED)]
    run = await asyncio.create_subprocess_exec(
        program, "--config-file", str(CONFIG), "run", str(description),
        "--url", service.url, "--header", f"Authorization: Bearer {token}",
        "--checks", "all", "--phases", phases, "--max-examples", str(EXAMPLES), *bound,
        "--request-timeout", str(SECONDS_A_REQUEST), "--continue-on-failure",
        "--warnings", "off", "--no-color", "--generation-database", "none",
        cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said = (await run.communicate())[0].decode()
    assert run.returncode == 0, said
    return said


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--schemathesis-seconds"))


@pytest.mark.timeout(0)
async def test_an_administrator_may_request_everything_and_gets_what_is_described(
    service: RunningService, tmp_path: Path, seconds: int, mistakes: pytest.LogCaptureFixture
) -> None:
    await service.project("web", servers={"s": {"jobs": [job()]}})
    await service.build()
    said = await schemathesis(
        service, tmp_path, service.token, "coverage,fuzzing,stateful", seconds=seconds
    )
    assert "Stateful" in said
    assert not mistakes.records


@pytest.mark.timeout(0)
async def test_an_operator_with_limits_gets_what_is_described(
    service: RunningService, tmp_path: Path, seconds: int, mistakes: pytest.LogCaptureFixture
) -> None:
    for name in ("web", "api"):
        await service.project(name, servers={"s": {"jobs": [job()]}, "t": {"jobs": [job()]}})
        await service.deploy("t", name)
    asked = {"role": "operator", "projects": ["web"], "servers": ["s"]}
    made = await service.call("POST", f"{API}/tokens", asked)
    await schemathesis(service, tmp_path, made.json["token"], "coverage", seconds=seconds)
    assert not mistakes.records


@pytest.mark.timeout(0)
async def test_a_worker_token_is_refused_everywhere_but_on_its_own_routes(
    service: RunningService, tmp_path: Path, seconds: int, mistakes: pytest.LogCaptureFixture
) -> None:
    made = await service.call("POST", f"{API}/tokens", {"role": "worker"})
    await schemathesis(service, tmp_path, made.json["token"], "coverage,fuzzing", seconds=seconds)
    assert not mistakes.records
    for path in ("/projects", "/workloads", "/tokens"):  # no request was accepted
        [left] = (await service.get(path)).values() if path != "/workloads" else ([],)
        assert path == "/tokens" or left == []

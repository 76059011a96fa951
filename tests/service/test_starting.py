"""The answers of a node that waits for its database."""

import aiohttp
import pytest

from boxsched.api.starting import starting_server
from boxsched.listening import bound


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/readyz"),
        ("GET", "/"),
        ("POST", "/api/v1/projects/web/builds"),
        ("PUT", "/healthz"),
    ],
)
async def test_it_is_healthy_and_answers_everything_else_with_503_and_retry_after(
    method: str, path: str
) -> None:
    with bound("127.0.0.1", 0) as sockets:
        async with starting_server(sockets), aiohttp.ClientSession(sockets.url) as client:
            async with client.get("/healthz") as answer:
                assert (answer.status, await answer.json()) == (200, {"status": "ok"})
            async with client.request(method, path) as answer:
                said = (await answer.json())["error"]
                assert (answer.status, said["code"]) == (503, "store_away")
                assert said["message"] == "starting: waiting for the database"
                assert int(answer.headers["Retry-After"]) > 0
                assert answer.headers["X-Content-Type-Options"] == "nosniff"

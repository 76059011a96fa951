"""Files of jobs between a worker and its node, over HTTP (``worker.agent.transfers``).

Not over the worker's connection: a large file would delay heartbeats and reports. Each request has
at most PART_BYTES, which every proxy lets through, and goes to the node that the worker is
connected to. A part that was not answered is sent again, perhaps to another node.
"""

import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from boxsched.errors import BoxschedError, LeaseEnded, StoreAway
from boxsched.model import JobId, job_text
from boxsched.protocol.artifacts import PART_BYTES, ArtifactFile
from boxsched.worker.remote.discovery import NodeAddress
from boxsched.worker.remote.link import RefusedByNode
from boxsched.worker.remote.opening import node_connector

REQUEST_SECONDS = 120.0
MAX_ANSWER_BYTES = 16 << 20  # a list of 10,000 files
_AGAIN = frozenset({401, 403, 408, 421, 429})  # may pass, after the operator has acted or at once

Key = tuple[JobId, int]  # a job and its lease token
T = TypeVar("T")


class _Missing(msgspec.Struct):
    missing: tuple[str, ...]


class _Part(msgspec.Struct):
    next: int | None


class _Given(msgspec.Struct):
    files: tuple[ArtifactFile, ...]


class _Refusal(msgspec.Struct):
    code: str
    message: str


class _Refused(msgspec.Struct):
    error: _Refusal


class NodeFiles:
    """``node`` is the node that the worker is connected to, None without one."""

    def __init__(self, token: Callable[[], str], tls: Callable[[], ssl.SSLContext | None]) -> None:
        self.node: NodeAddress | None = None
        self._token = token
        self._tls = tls
        self._session: tuple[NodeAddress, aiohttp.ClientSession] | None = None

    async def missing(self, key: Key, kept: Sequence[ArtifactFile]) -> Sequence[str]:
        body = msgspec.json.encode({"lease_token": key[1], "files": kept})
        said = await self._asked("POST", f"{_job(key)}/artifacts", {}, body)
        return _read(said, _Missing).missing

    async def put(self, key: Key, file: ArtifactFile, offset: int, data: bytes) -> int | None:
        query = {
            "lease_token": key[1],
            "size": file.size,
            "sha256": file.sha256,
            "executable": int(file.executable),
            "offset": offset,
        }
        path = f"{_job(key)}/artifacts/{quote(file.path, safe='/')}"
        return _read(await self._asked("PUT", path, query, data), _Part).next

    async def given(self, key: Key) -> Sequence[ArtifactFile]:
        said = await self._asked("GET", f"{_job(key)}/given-artifacts", {"lease_token": key[1]})
        return _read(said, _Given).files

    async def get(self, key: Key, file: ArtifactFile, offset: int) -> bytes:
        query = {"lease_token": key[1], "offset": offset}
        path = f"{_job(key)}/given-artifacts/{file.sha256}"
        return (await self._asked("GET", path, query))[:PART_BYTES]

    async def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session[1], None
            with contextlib.suppress(ConnectionError):
                await session.close()

    # --- Requests ---------------------------------------------------------------------------

    async def _asked(
        self, method: str, path: str, query: dict[str, Any], body: bytes | None = None
    ) -> bytes:
        """Return the body of a good answer. Raises StoreAway, or the node's refusal."""
        session, node = await self._opened()
        base = str(node.url).rstrip("/")
        url = URL(f"{base}{path}", encoded=True).with_query(query)
        try:
            headers = {"Authorization": f"Bearer {self._token()}"}
            timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
            async with session.request(
                method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                said = await answer.content.read(MAX_ANSWER_BYTES)
                while not answer.content.at_eof() and len(said) < MAX_ANSWER_BYTES:
                    said += await answer.content.read(MAX_ANSWER_BYTES - len(said))
        except (aiohttp.ClientError, OSError, TimeoutError, RefusedByNode) as error:
            raise StoreAway(f"{node} did not take it: {error}") from None
        if answer.status != 200:
            raise _refusal(answer.status, said)
        return said

    async def _opened(self) -> tuple[aiohttp.ClientSession, NodeAddress]:
        node = self.node
        if node is None:
            raise StoreAway("no node is connected")
        if self._session is None or self._session[0] != node:
            await self.close()
            connector = node_connector(node, self._tls())
            self._session = node, aiohttp.ClientSession(connector=connector)
        return self._session[1], node


def _job(key: Key) -> str:
    return f"/api/v1/jobs/{job_text(key[0])}"


def _read(said: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(said, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise StoreAway("the answer is not a node's") from None


def _refusal(status: int, said: bytes) -> BoxschedError:
    """Return the error of an answer. StoreAway: the request is repeated."""
    try:
        refused = msgspec.json.decode(said, type=_Refused).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return StoreAway(f"the answer has status {status}")  # of a proxy
    if refused.code == LeaseEnded.code:
        return LeaseEnded(refused.message)
    if status >= 500 or status in _AGAIN:
        return StoreAway(refused.message)
    return BoxschedError(refused.message)

"""Download an artifact, over broken connections too, and check its content."""

import hashlib
from collections.abc import AsyncIterator

import aiohttp

from boxsched import errors
from boxsched.client.http import ServiceLine, path
from boxsched.client.records import Artifact

_TIMEOUT = aiohttp.ClientTimeout(None, sock_connect=5.0, sock_read=45.0)
_PARTIAL = 206


async def download(line: ServiceLine, job: str, artifact: Artifact) -> AsyncIterator[bytes]:
    """Yield the content. Raises StoreAway at the end if it is not what the list said."""
    where = path("jobs", job, "artifacts", *artifact.path.split("/"))
    digest, offset = hashlib.sha256(), 0
    patience = line.trying()
    while offset < artifact.size:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            async with line.open("GET", where, headers=headers, timeout=_TIMEOUT) as response:
                if offset and response.status != _PARTIAL:
                    raise errors.StoreAway("the service, or a proxy, does not resume downloads")
                async for chunk in response.content.iter_any():
                    digest.update(chunk)
                    offset += len(chunk)
                    patience = line.trying()
                    yield chunk
            if offset < artifact.size:
                raise errors.StoreAway("the answer ended too early")
        except (aiohttp.ClientError, TimeoutError) as broken:
            await line.retry(patience, line.unreachable(broken))
        except (errors.StoreAway, errors.TooMany) as busy:
            await line.retry(patience, busy)
    if digest.hexdigest() != artifact.sha256:
        raise errors.StoreAway(f"the content of {artifact.path!a} is not what the service lists")

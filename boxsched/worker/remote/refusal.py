"""Why a node, or another program at its address, refused a worker."""

import aiohttp
import msgspec
from yarl import URL

from boxsched.protocol import wire
from boxsched.reaching import foreign
from boxsched.worker.remote.messages import printable

MAKE_ONE = "`boxsched token create --role worker`"
_MAX_REFUSAL_BYTES = 65_536


class _Refusal(msgspec.Struct):
    code: str
    message: str


class _Refused(msgspec.Struct):
    error: _Refusal


async def why_refused(session: aiohttp.ClientSession, url: URL, status: int) -> str:
    """Return what an answer of 401, 403 or 404 means.

    aiohttp drops the body of a failed handshake, so this requests the same address again.
    """
    try:
        async with session.get(url, allow_redirects=False) as answer:
            body = await answer.content.read(_MAX_REFUSAL_BYTES)
            said = msgspec.json.decode(body, type=_Refused).error
    except (aiohttp.ClientError, OSError, msgspec.DecodeError, UnicodeDecodeError):
        return foreign(status, url)
    if said.code == "not_a_worker":
        return f"this token is not a worker's; a worker needs one of the role worker: {MAKE_ONE}"
    if said.code == "unauthorized":
        return f"the token is invalid or expired ({status}); create one with {MAKE_ONE}"
    if said.code in ("forbidden", "not_found") and url.path != wire.PATH:
        return f"there is no node at {url} ({status}): check the path in --url"
    return f"the node refuses this worker ({status}): {printable(said.message)}"

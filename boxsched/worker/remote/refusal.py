"""Why a node, or another program at its address, refused a worker."""

import aiohttp
import msgspec
from yarl import URL

from boxsched.protocol import wire
from boxsched.reaching import foreign
from boxsched.worker.remote.saying import printable

MAKE_ONE = "`boxsched token create --role worker`"
_MAX_REFUSAL_BYTES = 65_536


class _Refusal(msgspec.Struct):
    code: str
    message: str


class _Refused(msgspec.Struct):
    error: _Refusal


async def why_refused(session: aiohttp.ClientSession, door: URL, status: int) -> str:
    """Say what an answer of 401, 403 or 404 means.

    aiohttp drops the body of a failed handshake, so the same address is asked once more for it.
    """
    try:
        async with session.get(door, allow_redirects=False) as answer:
            body = await answer.content.read(_MAX_REFUSAL_BYTES)
            said = msgspec.json.decode(body, type=_Refused).error
    except (aiohttp.ClientError, OSError, msgspec.DecodeError, UnicodeDecodeError):
        return foreign(status, door)
    if said.code == "not_a_worker":
        return f"this is an admin's token; a worker needs one of role worker: {MAKE_ONE}"
    if said.code == "unauthorized":
        return f"it does not take this token ({status}); make one with {MAKE_ONE}"
    if said.code in ("forbidden", "not_found") and door.path != wire.PATH:
        return f"no worker is taken at {door} ({status}): look at the path in --url"
    return f"it does not take this worker ({status}): {printable(said.message)}"

"""Send a request once, and return the outcome."""

import attrs
from aiohttp import ClientError, ClientResponse, InvalidURL
from yarl import URL

from boxsched.outgoing.guard import REFUSED, TOTAL_SECONDS, AddressGuard, AddressRefused
from boxsched.outgoing.requests import OutgoingRequest
from boxsched.outgoing.retrying import retry_after

MAX_ANSWER_BYTES = 65_536
MAX_ERROR_CHARACTERS = 300


@attrs.frozen
class SendOutcome:
    """The outcome of one try. ``error`` None: it was delivered.

    ``lasting``: another try would fail in the same way. ``pause``: seconds, from the receiver's
    Retry-After.
    """

    status: int | None
    error: str | None = None
    lasting: bool = False
    pause: float = 0.0


async def send(guard: AddressGuard, request: OutgoingRequest, now: float) -> SendOutcome:
    """Send the request. Errors of the receiver, its name or the network are in the answer."""
    url = URL(request.url)
    try:
        async with guard.session(url).post(
            url, data=request.body, headers=request.headers, allow_redirects=False
        ) as answer:
            said = await _read_some(answer)
    except AddressRefused:
        return SendOutcome(None, REFUSED.format(host=url.host), lasting=True)
    except InvalidURL:  # its host: stored before such hosts were refused
        return SendOutcome(None, f"its host {url.host} is not valid", lasting=True)
    except TimeoutError:
        return SendOutcome(None, f"no answer within {TOTAL_SECONDS:g} s")
    except (ClientError, OSError, ValueError) as error:
        return SendOutcome(None, _one_line(str(error) or type(error).__name__))
    if answer.status == 400 and request.done_if is not None and request.done_if in said:
        return SendOutcome(answer.status)
    return _judged(answer, now)


async def _read_some(answer: ClientResponse) -> bytes:
    """Read the answer's body, so that its connection can be used again; cut a long one."""
    said = b""
    while len(said) < MAX_ANSWER_BYTES:
        data = await answer.content.read(MAX_ANSWER_BYTES - len(said))
        if not data:
            return said
        said += data
    answer.close()
    return said


def _judged(answer: ClientResponse, now: float) -> SendOutcome:
    status = answer.status
    if 200 <= status < 300:
        return SendOutcome(status)
    pause = retry_after(answer.headers.get("Retry-After"), now)
    if 300 <= status < 400:
        return SendOutcome(status, f"it answered {status}: redirects are not followed", pause=pause)
    return SendOutcome(status, f"it answered {status}", pause=pause)


def _one_line(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:MAX_ERROR_CHARACTERS]

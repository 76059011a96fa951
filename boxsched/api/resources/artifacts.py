"""Artifacts of jobs: lists and downloads for users, uploads and the files of deploys for workers.

A download is always an attachment, whatever is in it: a job's author chooses the content, and the
page and the API share an origin.
"""

import re
from typing import Annotated

import msgspec
from aiohttp import web

from boxsched.api.http import bodies, replies
from boxsched.api.http.guard import TOKEN
from boxsched.api.http.not_found import no_such
from boxsched.api.http.streams import Cut, Stream
from boxsched.errors import Invalid
from boxsched.model import JobId, parse_job
from boxsched.node.node import Node
from boxsched.protocol.artifacts import MAX_ARTIFACTS, PART_BYTES, ArtifactFile
from boxsched.store.steps.blobs import StoredArtifact

MAX_NUMBER_DIGITS = 15
_RANGE = re.compile(r"bytes=(?P<first>[0-9]{1,15})?-(?P<last>[0-9]{1,15})?")


class ArtifactAnswer(msgspec.Struct, frozen=True):
    path: str
    size: int
    sha256: str


class ArtifactList(msgspec.Struct, frozen=True):
    """The artifacts of a job's last attempt."""

    artifacts: tuple[ArtifactAnswer, ...]


class AskKeep(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The files that a worker is going to store for a job."""

    lease_token: int
    files: Annotated[tuple[ArtifactFile, ...], msgspec.Meta(max_length=MAX_ARTIFACTS)]


class MissingAnswer(msgspec.Struct, frozen=True):
    """The paths whose content is not stored yet."""

    missing: tuple[str, ...]


class PartAnswer(msgspec.Struct, frozen=True):
    """The offset of the next part of the file; null at the end."""

    next: int | None


class GivenList(msgspec.Struct, frozen=True):
    """The artifacts of the build that a job deploys."""

    files: tuple[ArtifactFile, ...]


_keep = bodies.Form(AskKeep)


class ArtifactRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store

    # --- For users --------------------------------------------------------------------------

    async def list(self, request: web.Request) -> web.Response:
        job, attempt = await self._job(request)
        found = await self._node.artifacts.listed(job, attempt)
        shown = tuple(ArtifactAnswer(one.path, one.size, one.sha256) for one in found)
        return replies.json(ArtifactList(shown))

    async def download(self, request: web.Request) -> web.StreamResponse:
        job, attempt = await self._job(request)
        path = request.match_info["path"]
        found = await self._node.artifacts.find(job, attempt, path)
        if found is None:
            raise no_such("artifact", path)
        first, end = _range(request, found.size)
        response = replies.attachment(found.path.rpartition("/")[2])
        response.headers["ETag"] = f'"{found.sha256}"'
        response.headers["Accept-Ranges"] = "bytes"
        response.content_length = end - first
        if (first, end) != (0, found.size):
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{found.size}"
        # the first part before the headers: an error can still be answered
        data = await self._read(found, first, end)
        stream = Stream(request, response)
        try:
            await stream.open()
            while data:
                await stream.write(data)
                first += len(data)
                data = await self._read(found, first, end)
        except Cut:
            pass
        return response

    async def _read(self, found: StoredArtifact, first: int, end: int) -> bytes:
        if first >= end:
            return b""
        return await self._node.artifacts.read(found, first, end)

    async def _job(self, request: web.Request) -> tuple[JobId, int]:
        job = _job_of(request)
        found = await self._store.job_state(job)
        if found is None:
            raise no_such("job", request.match_info["job"])
        return job, found[1]

    # --- For workers ------------------------------------------------------------------------

    async def keep(self, request: web.Request) -> web.Response:
        """Begin to store the artifacts of a job."""
        asked = _keep.read(await bodies.read(request))
        key = _job_of(request), asked.lease_token
        missing = await self._node.artifacts.missing(request[TOKEN].id, key, asked.files)
        return replies.json(MissingAnswer(tuple(missing)))

    async def put(self, request: web.Request) -> web.Response:
        """Store a part of an artifact."""
        query = request.query
        try:
            one = msgspec.convert(
                {
                    "path": request.match_info["path"],
                    "size": _number(request, "size"),
                    "sha256": query.get("sha256", ""),
                    "executable": query.get("executable") == "1",
                },
                ArtifactFile,
            )
        except msgspec.ValidationError as error:
            raise Invalid(f"invalid file: {error}", "sha256") from None
        key, offset = _key(request), _number(request, "offset")
        data = await bodies.read_bytes(request, PART_BYTES)
        following = await self._node.artifacts.put(request[TOKEN].id, key, one, offset, data)
        return replies.json(PartAnswer(following))

    async def given(self, request: web.Request) -> web.Response:
        """What a deploy gets of its build."""
        found = await self._node.artifacts.given(request[TOKEN].id, _key(request))
        return replies.json(GivenList(tuple(found)))

    async def content(self, request: web.Request) -> web.Response:
        """A part of such a file."""
        key, offset = _key(request), _number(request, "offset")
        sha256 = request.match_info["sha256"]
        data = await self._node.artifacts.get(request[TOKEN].id, key, sha256, offset)
        response = replies.attachment("part")
        return web.Response(body=data, headers=response.headers)


def _job_of(request: web.Request) -> JobId:
    job = parse_job(request.match_info["job"])
    if job is None:
        raise no_such("job", request.match_info["job"])
    return job


def _key(request: web.Request) -> tuple[JobId, int]:
    return _job_of(request), _number(request, "lease_token")


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS):
        raise Invalid("must be a whole number, 0 or greater", name)
    return int(text)


def _range(request: web.Request, size: int) -> tuple[int, int]:
    """Return the bytes that the request asks for; all, for several ranges or an invalid one."""
    asked = _RANGE.fullmatch(request.headers.get("Range", ""))
    if asked is None or not size:
        return 0, size
    first, last = asked["first"], asked["last"]
    if first is None:
        return (max(0, size - int(last)), size) if last and int(last) else (0, size)
    begin = int(first)
    end = size if last is None else min(int(last) + 1, size)
    return (begin, end) if begin < end else (0, size)

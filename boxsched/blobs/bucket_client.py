"""Requests to a bucket of S3, or of a service that has S3's interface; needs the extra ``s3``.

Every request has a deadline and is repeated a few times. Errors are translated here: what may pass
is StoreAway, with a sentence for users; the node's log has the cause, without credentials. The
library finds credentials as all AWS programs do: environment, profile, container or instance.
"""

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import attrs
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)

from boxsched.blobs.places import WrongStore
from boxsched.errors import StoreAway

CONNECT_SECONDS, READ_SECONDS = 5.0, 15.0
TRIES = 3  # of a request
# Of all tries of a request together. A reader of a log waits 45 s for an answer (``client.logs``):
# it must learn before why there is none.
REQUEST_SECONDS = 30.0
CONNECTIONS = 50
SAID_SECONDS = 60.0  # the same refusal, or a new outage, is logged again after this time
OUTAGE_SECONDS = 600.0  # between two warnings of one outage
PAGE = 1_000  # keys of a list

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
# With these answers another try does not help: somebody must change bucket, rights or credentials.
_REFUSED = frozenset({301, 400, 401, 403, 404})
_PASSES = frozenset({"RequestTimeout", "SlowDown", "OperationAborted"})  # whatever the status
_AWAY = (HTTPClientError, ConnectionError, IncompleteReadError)

_log = logging.getLogger(__name__)


class NoSuchThing(Exception):
    """The bucket has no object, or no upload, of this name."""


class BucketRefuses(StoreAway):
    """The service refuses the request: configuration or rights are wrong, as ``cause`` says."""

    def __init__(self, cause: str) -> None:
        super().__init__("the object store for artifacts and logs refuses it: see the node's log")
        self.cause = cause


@attrs.frozen
class UploadedPart:
    """A part of an upload; ``number`` from 1, ``size`` in bytes."""

    number: int
    size: int
    tag: str
    changed: float


class BucketOutage:
    """Logs that a bucket does not answer: at its beginning, every OUTAGE_SECONDS, and at the end.

    A bucket that fails again and again is logged at most every SAID_SECONDS.
    """

    def __init__(self, bucket: str, now: Callable[[], float] = time.monotonic) -> None:
        self._bucket = bucket
        self._now = now
        self._since: float | None = None
        self._said = float("-inf")
        self._must_end = False  # whether this outage was logged

    def failed(self, what: str) -> None:
        now = self._now()
        if self._since is None:
            self._since = now
        pause = OUTAGE_SECONDS if self._must_end else SAID_SECONDS
        if now - self._said >= pause:
            self._said, self._must_end = now, True
            since = f" (for {now - self._since:.0f} s)" if now > self._since else ""
            _log.warning("%s %s%s", self._bucket, what, since)

    def over(self) -> None:
        if self._must_end and self._since is not None:
            _log.warning("%s answers again, after %.0f s", self._bucket, self._now() - self._since)
        self._since, self._must_end = None, False


class BucketClient:
    """``open`` first, ``close`` last. Keys are without the prefix. All methods raise StoreAway."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._endpoint = endpoint
        self._client: Any = None
        self._opened = contextlib.AsyncExitStack()
        self._said: dict[str, float] = {}
        self._outage = BucketOutage(str(self))

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".removesuffix("/")

    async def open(self) -> None:
        """Raises WrongStore if there are no credentials or the configuration is wrong. A repeated
        call changes nothing.
        """
        if self._client is not None:
            return
        session = get_session()
        try:
            if await session.get_credentials() is None:
                raise WrongStore(
                    f"no credentials for {self}: set AWS_ACCESS_KEY_ID and"
                    " AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role"
                )
            region = session.get_config_variable("region") or os.environ.get("AWS_REGION")
            made = session.create_client(
                "s3", region_name=region, endpoint_url=self._endpoint, config=self._config()
            )
            self._client = await self._opened.enter_async_context(made)
        except (BotoCoreError, ValueError) as error:
            raise WrongStore(f"{self} cannot be used: {error}") from None

    def _config(self) -> AioConfig:
        own = self._endpoint or any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)
        return AioConfig(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            max_pool_connections=CONNECTIONS,
            # newer checksums are not known to all services; every object has an MD5 instead
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # other services need not have a name for each bucket
            s3={"addressing_style": "path"} if own else None,
        )

    async def close(self) -> None:
        self._client = None
        await self._opened.aclose()

    # --- Objects ----------------------------------------------------------------------------

    async def put(self, key: str, data: bytes, *, new: bool = False) -> bool:
        """Store an object; with ``new`` only if there is none. Return whether it was stored."""
        more = {"IfNoneMatch": "*"} if new else {}
        try:
            async with self._asking(key) as its:
                md5 = await asyncio.to_thread(_md5, data)
                await self._client.put_object(**its, Body=data, ContentMD5=md5, **more)
        except ClientError as error:
            if new and _status(error) in (409, 412):  # another one was faster
                return False
            if new and _status(error) == 501:  # a service without this condition
                return await self.put(key, data)
            raise self._refused(error) from None
        return True

    async def get(self, key: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return bytes of an object; b"" behind its end. Raises NoSuchThing."""
        more = {} if limit is None else {"Range": f"bytes={offset}-{offset + limit - 1}"}
        until = time.monotonic() + READ_SECONDS
        for attempt in range(1, TRIES + 1):
            answered = False
            try:
                async with self._asking(key) as its:
                    found = await self._client.get_object(**its, **more)
                    answered = True
                    async with found["Body"] as body:
                        data: bytes = await body.read()
                return data
            except ClientError as error:
                if _code(error) == "NoSuchKey":
                    raise NoSuchThing(key) from None
                if _status(error) == 416:
                    return b""
                raise self._refused(error) from None
            except StoreAway:
                # the library repeats requests, but not the reading of a body
                if not answered or attempt == TRIES or time.monotonic() > until:
                    raise
        raise AssertionError

    async def length(self, key: str) -> int | None:
        """Return an object's length in bytes; None if there is no such object."""
        try:
            async with self._asking(key) as its:
                return int((await self._client.head_object(**its))["ContentLength"])
        except ClientError as error:
            if _status(error) == 404:
                return None
            raise self._refused(error) from None

    async def remove(self, key: str) -> None:
        """Remove an object; none of that name is right, too."""
        try:
            async with self._asking(key) as its:
                await self._client.delete_object(**its)
        except ClientError as error:
            raise self._refused(error) from None

    async def listed(
        self, prefix: str, after: str = "", limit: int = PAGE
    ) -> tuple[list[tuple[str, int, float]], str | None]:
        """Return the next objects whose keys begin so: key, bytes, time of change; and the key
        after which to continue (None at the end).
        """
        more = {"StartAfter": self._prefix + after} if after else {}
        try:
            async with self._asking(prefix, "Prefix") as its:
                said = await self._client.list_objects_v2(**its, MaxKeys=limit, **more)
        except ClientError as error:
            raise self._refused(error) from None
        found = [
            (
                one["Key"].removeprefix(self._prefix),
                int(one["Size"]),
                one["LastModified"].timestamp(),
            )
            for one in said.get("Contents", ())
        ]
        return found, found[-1][0] if found and said.get("IsTruncated") else None

    # --- Uploads in parts -------------------------------------------------------------------

    async def begin(self, key: str) -> str:
        """Begin an upload in parts; return its id."""
        try:
            async with self._asking(key) as its:
                return str((await self._client.create_multipart_upload(**its))["UploadId"])
        except ClientError as error:
            raise self._refused(error) from None

    async def put_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Store a part, 1 or later; return its tag. Raises NoSuchThing if there is no upload."""
        try:
            async with self._asking(key) as its:
                md5 = await asyncio.to_thread(_md5, data)
                said = await self._client.upload_part(
                    **its, UploadId=upload, PartNumber=number, Body=data, ContentMD5=md5
                )
        except ClientError as error:
            raise self._of_upload(error) from None
        return str(said["ETag"])

    async def complete(self, key: str, upload: str, tags: list[str]) -> None:
        """Make an object of the parts. Raises NoSuchThing if upload or parts are not there."""
        parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, start=1)]
        try:
            async with self._asking(key) as its:
                await self._client.complete_multipart_upload(
                    **its, UploadId=upload, MultipartUpload={"Parts": parts}
                )
        except ClientError as error:
            raise self._of_upload(error) from None

    async def abort(self, key: str, upload: str) -> None:
        """Remove an upload and its parts; none of that id is right, too."""
        try:
            async with self._asking(key) as its:
                await self._client.abort_multipart_upload(**its, UploadId=upload)
        except ClientError as error:
            with contextlib.suppress(NoSuchThing):
                raise self._of_upload(error) from None

    async def uploads(self, prefix: str) -> list[tuple[str, str, float]]:
        """Return uploads that are not complete: key, id, and when they began."""
        found: list[tuple[str, str, float]] = []
        more: dict[str, str] = {}
        while True:
            try:
                async with self._asking(prefix, "Prefix") as its:
                    said = await self._client.list_multipart_uploads(**its, **more)
            except ClientError as error:
                raise self._refused(error) from None
            found += [
                (
                    one["Key"].removeprefix(self._prefix),
                    one["UploadId"],
                    one["Initiated"].timestamp(),
                )
                for one in said.get("Uploads", ())
            ]
            if not said.get("IsTruncated"):
                return found
            more = {
                "KeyMarker": said["NextKeyMarker"],
                "UploadIdMarker": said["NextUploadIdMarker"],
            }

    async def parts(self, key: str, upload: str) -> list[UploadedPart]:
        """Return the parts of an upload. Raises NoSuchThing."""
        found: list[UploadedPart] = []
        more: dict[str, int] = {}
        while True:
            try:
                async with self._asking(key) as its:
                    said = await self._client.list_parts(**its, UploadId=upload, **more)
            except ClientError as error:
                raise self._of_upload(error) from None
            found += [
                UploadedPart(
                    int(one["PartNumber"]),
                    int(one["Size"]),
                    str(one["ETag"]),
                    one["LastModified"].timestamp(),
                )
                for one in said.get("Parts", ())
            ]
            if not said.get("IsTruncated"):
                return found
            more = {"PartNumberMarker": said["NextPartNumberMarker"]}

    # --- Errors -----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _asking(self, key: str, name: str = "Key") -> AsyncIterator[Mapping[str, str]]:
        """Give the arguments that name the object; raise StoreAway if there is no answer."""
        if self._client is None:
            raise StoreAway("the node is ending")
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                yield {"Bucket": self._bucket, name: self._prefix + key}
            self._outage.over()
        except SSLError as error:
            self._say("SSL", f"{self} cannot be trusted: {error}")
            raise BucketRefuses(str(error)) from None
        except TimeoutError:
            self._outage.failed(f"has not answered within {REQUEST_SECONDS:g} s")
            raise _away() from None
        except (*_AWAY, aiohttp.ClientError, OSError) as error:
            self._outage.failed(f"does not answer: {str(error) or type(error).__name__}")
            raise _away() from None
        except BotoCoreError as error:
            self._say(type(error).__name__, f"{self} cannot be used: {error}")
            raise BucketRefuses(str(error)) from None

    def _refused(self, error: ClientError) -> StoreAway:
        code = _code(error)
        text = f"{code}: {error.response.get('Error', {}).get('Message', '')}".rstrip(": ")
        if _status(error) in _REFUSED and code not in _PASSES:
            self._say(code, f"{self} refuses {error.operation_name}: {text}")
            return BucketRefuses(text)
        self._outage.failed(f"cannot answer {error.operation_name} now: {text}")
        return _away()

    def _of_upload(self, error: ClientError) -> Exception:
        if _code(error) in ("NoSuchUpload", "InvalidPart", "InvalidPartOrder"):
            return NoSuchThing(_code(error))
        return self._refused(error)

    def _say(self, kind: str, what: str) -> None:
        """Log an error, but only one of a kind in SAID_SECONDS."""
        now = time.monotonic()
        if now - self._said.get(kind, float("-inf")) >= SAID_SECONDS:
            self._said[kind] = now
            _log.warning("%s", what)


def _away() -> StoreAway:
    return StoreAway("the object store for artifacts and logs does not answer: try again later")


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))

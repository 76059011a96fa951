"""Options that name a folder or bucket for artifacts and logs."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from boxsched.cli.failing import InvalidInput

if TYPE_CHECKING:
    from boxsched.node.options import S3Address


class LogStorePlace(click.ParamType["Path | S3Address"]):
    """A folder, or a bucket as ``s3://BUCKET[/PREFIX]``."""

    name = "DIR|s3://BUCKET[/PREFIX]"

    def convert(self, value: Any, param: Any, ctx: Any) -> "Path | S3Address":
        if not isinstance(value, str) or "://" not in value:
            return Path(value).absolute()
        if not value.startswith("s3://"):
            self.fail(f"{value!r} must be a folder or s3://BUCKET[/PREFIX]", param, ctx)
        from boxsched.node.options import S3Address

        try:
            return S3Address.read(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def check_log_store(store: "Path | S3Address | None", endpoint: str | None, option: str) -> None:
    """Refuse a bucket without the library for it, and an endpoint that is not one.

    ``option``: the name of the option of the store, and with -endpoint that of the other.
    """
    bucket = store is not None and not isinstance(store, Path)
    if bucket and not _is_installed("aiobotocore"):
        raise InvalidInput(
            f"{option}: {store} needs a library that is not installed: pip install 'boxsched[s3]'"
        )
    if endpoint is None:
        return
    if not bucket:
        raise InvalidInput(f"{option}-endpoint: only with {option} s3://BUCKET")
    url = urlsplit(endpoint)
    if url.username is not None or url.password is not None:
        raise InvalidInput(
            f"{option}-endpoint: must contain no credentials: use AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or a profile"
        )
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise InvalidInput(f"{option}-endpoint: must be http://HOST[:PORT] or https://HOST[:PORT]")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False

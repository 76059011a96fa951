"""Find the service: by ``--url`` and ``--token``, or the local one through its data folder."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from boxsched import errors
from boxsched.cli import output, token_source
from boxsched.cli.failing import Failure, InvalidInput, clear_errors
from boxsched.client import Client, Unreachable
from boxsched.client.finding import read_token, same, several
from boxsched.client.http import address
from boxsched.folders import DataFolder, default_data

# Long enough for a service that is just starting.
PATIENCE_SECONDS = 5.0

_T = TypeVar("_T")
_Command = Callable[..., Any]


@attrs.frozen
class Service:
    """The options that name the service. ``urls``: of its nodes."""

    urls: tuple[str, ...]
    token: str | None = attrs.field(repr=False)
    token_file: Path | None
    data: Path | None
    organization: str | None = None

    @property
    def folder(self) -> DataFolder:
        return DataFolder(self.data or default_data())

    @property
    def nodes(self) -> tuple["Service", ...]:
        """Return one ``Service`` for each node."""
        return tuple([attrs.evolve(self, urls=(url,)) for url in self.urls]) or (self,)

    def find(self) -> tuple[tuple[str, ...], str]:
        """Return (URLs, token). Raises Failure, with advice, if there is no service or token."""
        urls = self.urls or (self._local_url(),)
        with clear_errors():
            for url in urls:
                address(url)
        given = (self.token or "").strip() or self.token_file
        token = None if given else self._local_token(urls)
        try:
            return urls, read_token(token or self.token, self.token_file)
        except OSError as error:
            raise InvalidInput(
                f"--token-file: cannot read {self.token_file}: {error.strerror}"
            ) from None
        except ValueError as error:
            raise InvalidInput(f"{self.token_file or '--token'}: {error}") from None

    def _local_url(self) -> str:
        starting = self.folder.starting()
        if starting is not None:
            raise Failure(
                f"the service on the data folder {self.folder.path} has not started yet: "
                f"{starting.waits_for}; it tries again automatically"
            )
        listening = self.folder.listening()
        if listening is None:
            raise Failure(
                f"no service is running on the data folder {self.folder.path}; start one with "
                "`boxsched serve`, or give one with --url and --token-file"
            )
        return listening.url

    def _local_token(self, urls: tuple[str, ...]) -> str:
        # Send the token only to the service that wrote it, unless the caller gives --data.
        local = self.folder.listening()
        if self.urls and not self.data:
            other = [url for url in urls if not (local and same(url, local.url))]
            if other:
                raise InvalidInput(
                    f"no token for {other[0]}; give one with --token-file or BOXSCHED_TOKEN_FILE "
                    "(a service writes it to admin-token in its data folder)"
                )
        token = self.folder.token()
        if token is None:
            raise InvalidInput(
                f"cannot read the token in {self.folder.token_file}; give one with "
                "--token-file or BOXSCHED_TOKEN_FILE"
            )
        return token

    def call(
        self,
        work: Callable[[Client], Awaitable[_T]],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> _T:
        """Run ``work`` with a client of the service. Its errors end the command."""
        urls, token = self.find()
        with clear_errors():
            try:
                with asyncio.Runner(loop_factory=loop_factory) as runner:
                    return runner.run(_with_client(urls, token, self.organization, work))
            except Unreachable as error:
                start = "; start it with `boxsched serve`" if error.absent else ""
                raise Unreachable(f"{error.message}{start}") from None
            except errors.Unauthorized as error:
                if error.code != errors.Unauthorized.code:
                    raise
                raise errors.Unauthorized(
                    f"the service at {urls[0]} does not accept this token (401); its admin token "
                    "is in the file admin-token in its data folder"
                ) from None


async def _with_client(
    urls: tuple[str, ...],
    token: str,
    organization: str | None,
    work: Callable[[Client], Awaitable[_T]],
) -> _T:
    async with Client(urls, token, organization=organization, patience=PATIENCE_SECONDS) as client:
        try:
            return await work(client)
        finally:
            output.set_clock(client.skew)


_OPTIONS = (
    click.option(
        "--url",
        "urls",
        envvar="BOXSCHED_URL",
        metavar="URL",
        multiple=True,
        help="URL of the service. Repeat it for several nodes: if one does not answer, the next is "
        "used. Also BOXSCHED_URL. [default: the local one]",
    ),
    click.option(
        "--token",
        envvar="BOXSCHED_TOKEN",
        metavar="TOKEN",
        help="Token. Other users of this machine can see it. Also BOXSCHED_TOKEN.",
    ),
    click.option(
        "--token-file",
        envvar="BOXSCHED_TOKEN_FILE",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with the token. Also BOXSCHED_TOKEN_FILE. [default: the local service's]",
    ),
    click.option(
        "--data",
        envvar="BOXSCHED_DATA",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Data folder of the local service. Also BOXSCHED_DATA. [default: the user's]",
    ),
    click.option(
        "--organization",
        envvar="BOXSCHED_ORGANIZATION",
        metavar="NAME",
        help="Organization, for a token of the instance. Also BOXSCHED_ORGANIZATION. [default: the "
        "token's]",
    ),
)


def with_service(command: _Command) -> _Command:
    """Add the options that name the service and the organization, as one argument ``service``."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        urls: tuple[str, ...],
        token: str | None,
        token_file: Path | None,
        data: Path | None,
        organization: str | None,
        **options: Any,
    ) -> Any:
        # One option may contain several URLs, as for a worker.
        given = tuple([url for text in urls for url in several(text)])
        service = Service(given, *token_source.choose(token, token_file), data, organization)
        return command(*args, service=service, **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped

"""``boxsched artifacts``."""

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import click

from boxsched import errors
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.logs import jobs_of
from boxsched.cli.output import as_json_option, print_json, print_table
from boxsched.client import Client
from boxsched.client.records import Artifact
from boxsched.file_paths import unsafe
from boxsched.globs import first_match

Found = tuple[str, Artifact]  # a job's id, and an artifact of it


@click.command()
@click.argument("target", metavar="JOB|WORKLOAD")
@click.argument("paths", metavar="[PATH...]", nargs=-1)
@click.option(
    "--download",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write them into this folder, under their paths.",
)
@as_json_option
@with_service
def artifacts(
    target: str, paths: tuple[str, ...], download: Path | None, as_json: bool, service: Service
) -> None:
    """List or download the files that a job (w41-2) has kept, or all jobs of a workload (w41).

    PATH is a path or a pattern; one that matches a folder means all files in it.

    \b
    Examples:
      boxsched artifacts w41
      boxsched artifacts w41-1 'report/*.xml' --download out
    """

    async def work(client: Client) -> list[Found]:
        found = await _find(client, target, paths)
        if download is not None:
            await _download(client, found, download)
        return found

    found = service.call(work)
    if as_json:
        rows = [
            {"job": job, "path": one.path, "size": one.size, "sha256": one.sha256}
            for job, one in found
        ]
        print_json({"artifacts": rows})
    elif download is not None:
        click.echo(f"{len(found)} files, {sum(one.size for _, one in found)} bytes, in {download}")
    else:
        print_table(
            ("job", "path", "bytes", "sha256"),
            [(job, one.path, str(one.size), one.sha256) for job, one in found],
            empty=f"{plain(target)} has no artifacts",
        )


async def _find(client: Client, target: str, paths: Sequence[str]) -> list[Found]:
    """Return the artifacts that match. Raises Failure if a path matches none."""
    jobs = await jobs_of(client, target)
    found = [(job.id, one) for job in jobs for one in await client.artifacts(job.id)]
    if not paths:
        return found
    wanted = [path.removeprefix("./").removesuffix("/") for path in paths]
    for path in wanted:
        if not any(_matches(one.path, [path]) for _, one in found):
            raise Failure(f"{target} has no artifact {path!a}")
    return [each for each in found if _matches(each[1].path, wanted)]


def _matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the path, or a folder around it."""
    parts = path.split("/")
    names = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(first_match(name, tuple(patterns)) is not None for name in names)


async def _download(client: Client, found: Sequence[Found], folder: Path) -> None:
    seen: dict[str, str] = {}
    for job, one in found:
        if unsafe(one.path):  # the service is not trusted with this machine's files
            raise Failure(f"the path {one.path!a} is not accepted")
        if one.path in seen:
            raise InvalidInput(
                f"{seen[one.path]} and {job} both have {one.path}: name one of the jobs"
            )
        seen[one.path] = job
    try:
        os.makedirs(folder, exist_ok=True)
        for job, one in found:
            await _write(client.download(job, one), folder, one.path)
    except OSError as error:
        raise Failure(f"cannot write {error.filename or folder}: {error.strerror}") from None


async def _write(content: AsyncIterator[bytes], folder: Path, path: str) -> None:
    """Write a file that is complete or not there. No link in the folder is followed."""
    *folders, name = path.split("/")
    with _opened(folder, folders) as at:
        new = f".{secrets.token_hex(8)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(os.open(new, flags, 0o644, dir_fd=at), "wb") as file:
                async for data in content:
                    file.write(data)
            os.rename(new, name, src_dir_fd=at, dst_dir_fd=at)
        except (OSError, errors.BoxschedError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=at)
            raise


@contextlib.contextmanager
def _opened(folder: Path, inner: Sequence[str]) -> Iterator[int]:
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in inner:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=at)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            following = os.open(part, flags, dir_fd=at)
            os.close(at)
            at = following
        yield at
    finally:
        os.close(at)

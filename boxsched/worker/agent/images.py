"""Jobs that see another system than the worker's: an image, a folder with a whole system.

A project may name any path, so a worker names the folders that have images. Only the script runs in
the image; git's steps see the worker's own system.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from boxsched.worker.agent.bubblewrap import LAST_ALIKE
from boxsched.worker.agent.podman import Podman
from boxsched.worker.supervisor.container import Container
from boxsched.worker.supervisor.isolation import IMAGE, SCRIPT, STAGE, Isolation

FOLDER = "dir:"
SHELL = "/bin/sh"
# Images may have no bash.
SCRIPT_ARGV = [
    SHELL,
    "-c",
    'if command -v bash >/dev/null; then exec bash -e "$1"; fi; exec "$0" -e "$1"',
    SHELL,
    SCRIPT,
]
_OURS = frozenset({"proc", "dev", "sys", "tmp", "run", "box", "lost+found"})  # not the image's
_RESOLVER = "/etc/resolv.conf"


class NoImage(Exception):
    """The job cannot run in its image here; the message says why and what to do."""


@attrs.frozen
class Images:
    """The images of a worker. ``worker``: its name. ``folders``: those below are images.

    ``podman``: runs images of registries; None: no such images.
    """

    worker: str = "this worker"
    folders: tuple[str, ...] = ()
    podman: Podman | None = None

    def container(self, image: str, name: str) -> Container:
        """Return the container of a job in this image. Raises NoImage."""
        if self.podman is None:
            raise NoImage(
                f"{self.worker} runs no jobs in images such as {image}: start a worker with "
                "--box-driver podman, and give its Boxes a type that the job names as box_type"
            )
        return self.podman.container(name, image)


NO_IMAGES = Images()


def parts(images: Images) -> Mapping[str, str]:
    """Return the part of the worker's fingerprint."""
    kinds = [
        *(["dir"] if images.folders else []),
        *(["podman"] if images.podman is not None else []),
    ]
    return {"images": "+".join(kinds) or "none"}


def image_folders(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the folders that options name. Raises ValueError."""
    for path in paths:
        if not path.is_absolute() or not path.is_dir() or os.path.realpath(path) == "/":
            raise ValueError(f"{path} must be the absolute path of a folder, and not /")
    return tuple(map(os.path.realpath, paths))


def in_image(image: str, images: Images, walls: Isolation | None) -> Isolation:
    """Return how a job in this image is isolated. Raises NoImage. Blocking."""
    if walls is None:
        raise NoImage(
            f"{images.worker} does not isolate jobs, so it cannot run one in {image}: "
            "start it with --box-driver bubblewrap"
        )
    path = image.removeprefix(FOLDER)
    folder = os.path.realpath(path)
    if not any(_is_below(folder, allowed) for allowed in images.folders):
        raise NoImage(
            f"{path} is not in a folder of images of {images.worker}: start it with --image-dir"
        )
    if any(_is_below(hidden, folder) or _is_below(folder, hidden) for hidden in walls.hidden):
        raise NoImage(f"{path} contains files of {images.worker}")
    if not os.path.isdir(folder):
        raise NoImage(f"{images.worker} has no image {path}")
    if not os.path.lexists(f"{folder}{SHELL}"):
        raise NoImage(f"the image {path} has no {SHELL}")
    try:
        system = list(_system(folder, folder if walls.uid is None else f"{STAGE}/{IMAGE}"))
    except OSError as error:
        raise NoImage(f"the image {path} cannot be read: {error.strerror}") from None
    alike = walls.arguments[: walls.arguments.index(LAST_ALIKE) + 1]
    own = ["--proc", "/proc", "--dev", "/dev", "--dir", "/run"]
    return walls._replace(arguments=[*alike, *system, *own], late=[], image=folder)


def _system(folder: str, place: str) -> Iterator[str]:
    """Yield options that show the image's system, but for what each Box has of its own."""
    for name in sorted(os.listdir(folder)):
        if name in _OURS:
            continue
        path = f"{folder}/{name}"
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), f"/{name}")
        else:
            yield from ("--ro-bind", f"{place}/{name}", f"/{name}")
    if os.path.isfile(f"{folder}{_RESOLVER}") and not os.path.islink(f"{folder}{_RESOLVER}"):
        host = os.path.realpath(_RESOLVER)
        yield from ("--ro-bind-try", host, _RESOLVER)


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")

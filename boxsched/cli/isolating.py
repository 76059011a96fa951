"""Choose what runs jobs, from the options of ``worker``, ``serve`` and ``demo``."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.options import ssh_address
from boxsched.model import DEFAULT_BOX_TYPE

if TYPE_CHECKING:
    from boxsched.worker.agent.images import Images
    from boxsched.worker.remote.tls import TlsFiles
    from boxsched.worker.supervisor.isolation import Isolation
    from boxsched.worker.supervisor.limits import Limits

LIMITS = ("memory", "cpus", "processes", "disk")
_ONLY_ISOLATED = ("box_user", "box_readable", "image_dir")


class BoxSettings(NamedTuple):
    """How jobs run. ``isolation``: for the driver bubblewrap. ``problem``: why jobs are not
    isolated although nobody chose that, and what to do; None: they are, or somebody did.
    """

    driver: str
    isolation: "Isolation | None"
    limits: "Limits"
    images: "Images"
    problem: str | None = None


def choose_boxes(
    options: dict[str, Any],
    *,
    hidden: Sequence[Path],
    box_type: str = DEFAULT_BOX_TYPE,
    repositories: bool = False,
) -> BoxSettings:
    """Take the options about Boxes out of ``options``. Return how jobs run. ``ssh_address`` stays,
    checked.

    ``hidden``: what isolated jobs must not see; the first is the data folder. ``repositories``:
    whether git sees repositories on this machine. Raises InvalidInput; Failure where jobs cannot be
    isolated or limited here as the options ask for.
    """
    options["ssh_address"] = ssh_address(options["ssh_address"])
    asked = {name: options.pop(name) for name in LIMITS}
    from boxsched.worker.agent.images import NO_IMAGES

    chosen: str | None = options.pop("box_driver")
    chosen = None if chosen == "auto" else chosen
    wishes = {name: options.pop(name) for name in (*_ONLY_ISOLATED, "box_network")}
    if chosen in ("process", "none"):
        _refuse_wishes(wishes)
        return BoxSettings(chosen, None, _limits(asked, box_type, chosen), NO_IMAGES)
    if options.get("boxes") == 0:
        return BoxSettings("process", None, _limits(asked, box_type, "none"), NO_IMAGES)
    is_asked = chosen in ("bubblewrap", "podman") or _names(wishes)
    try:
        isolation = _isolation(wishes, hidden, repositories)
        problem = _why_not(isolation)
    except InvalidInput as error:
        if is_asked:
            raise
        problem = error.format_message()
    limits = _limits(asked, box_type, "bubblewrap")
    if problem is None:
        images = _images(wishes, limits, chosen)
        return BoxSettings(chosen or "bubblewrap", isolation, limits, images)
    if is_asked:
        raise Failure(f"--box-driver {chosen or 'bubblewrap'}: {problem}")
    return BoxSettings("process", None, limits, NO_IMAGES, problem)


def secret_files(data: Path, token: Path | None, tls: "TlsFiles") -> list[Path]:
    """Return the files and folders of a worker that jobs must not see."""
    return [data, *(path for path in (token, tls.certificate, tls.key) if path is not None)]


def unisolated(problem: str) -> str:
    """Return what a worker says of jobs that are not isolated."""
    return (
        f"jobs are not isolated and run as the user of this worker: {problem}; or trust every job"
    )


def _names(wishes: dict[str, Any]) -> list[str]:
    """Return the options given that only isolated jobs have."""
    given = [name for name in _ONLY_ISOLATED if wishes[name]]
    given += ["box_network"] if wishes["box_network"] == "none" else []
    return [f"--{name.replace('_', '-')}" for name in given]


def _refuse_wishes(wishes: dict[str, Any]) -> None:
    for option in _names(wishes):
        raise InvalidInput(f"{option}: only with --box-driver bubblewrap")


def _isolation(wishes: dict[str, Any], hidden: Sequence[Path], repositories: bool) -> "Isolation":
    """Return how jobs are isolated. Raises InvalidInput."""
    from boxsched.worker.agent import bubblewrap

    asked = bubblewrap.BoxOptions(
        user=wishes["box_user"],
        network=wishes["box_network"] == "host",
        readable=wishes["box_readable"],
        hidden=tuple(hidden),
        repositories=repositories,
    )
    with contextlib.suppress(OSError):  # its use says what is wrong
        hidden[0].mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return bubblewrap.isolation(asked)
    except bubblewrap.BadBoxOption as error:
        raise InvalidInput(str(error)) from None


def _images(wishes: dict[str, Any], limits: "Limits", chosen: str | None) -> "Images":
    """Return the images of the worker. Raises InvalidInput; Failure if podman does not work."""
    from boxsched.worker.agent.images import Images, image_folders
    from boxsched.worker.agent.podman import podman

    try:
        images = Images(folders=image_folders(wishes["image_dir"]))
    except ValueError as error:
        raise InvalidInput(f"--image-dir: {error}") from None
    if chosen != "podman":
        return images
    found = podman(network=wishes["box_network"] == "host", limits=limits)
    if isinstance(found, str):
        raise Failure(
            f"--box-driver podman: {found}; it needs podman, runc or crun and, for a user other "
            "than root, uidmap (docs/workers.md)"
        )
    return Images(folders=images.folders, podman=found)


def _why_not(isolation: "Isolation") -> str | None:
    """Return why jobs cannot be isolated here, and what to do."""
    from boxsched.worker.agent import bubblewrap

    problem = bubblewrap.probe(isolation)
    return problem and f"{problem}; to isolate jobs, {bubblewrap.advice(problem)}"


def _limits(asked: dict[str, Any], box_type: str, driver: str) -> "Limits":
    """Return the limits of a job. Raises InvalidInput; Failure where they cannot be enforced."""
    from boxsched.worker.agent import limiting
    from boxsched.worker.supervisor.limits import Limits

    memory, cpus, processes, disk = (_for_type(name, asked[name], box_type) for name in LIMITS)
    limits = Limits(_whole(memory), cpus, _whole(processes), _whole(disk))
    if driver == "none":
        return Limits()
    try:
        return limiting.limiting(limits)
    except limiting.CannotLimit as error:
        raise Failure(
            f"--{error.limit}: it cannot be enforced here: {error}; {limiting.ADVICE}, or omit "
            f"--{error.limit}"
        ) from None


def _for_type(name: str, given: Sequence[tuple[str | None, float]], box_type: str) -> float | None:
    """Return the limit of this Box type, or else that of all types. Raises InvalidInput."""
    if len({of_type for of_type, _ in given}) < len(given):
        raise InvalidInput(f"--{name}: give one for each Box type, and one for all others")
    limits = dict(given)
    return limits.get(box_type, limits.get(None))


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)

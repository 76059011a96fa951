"""Choose what runs jobs, from the options of ``worker``, ``serve`` and ``demo``."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.options import ssh_address
from boxsched.model import DEFAULT_BOX_TYPE

if TYPE_CHECKING:
    from boxsched.worker.supervisor.isolation import Isolation
    from boxsched.worker.supervisor.limits import Limits

LIMITS = ("memory", "cpus", "processes", "disk")
_ONLY_ISOLATED = ("box_user", "box_readable")


class BoxSettings(NamedTuple):
    """How jobs run. ``isolation``: for the driver bubblewrap."""

    driver: str
    isolation: "Isolation | None"
    limits: "Limits"


def choose_boxes(
    options: dict[str, Any], *, hidden: Sequence[Path], box_type: str = DEFAULT_BOX_TYPE
) -> BoxSettings:
    """Take the options about Boxes out of ``options``. Return how jobs run. ``ssh_address`` stays,
    checked.

    ``hidden``: what isolated jobs must not see; the first is the data folder. Raises InvalidInput;
    Failure where jobs cannot be isolated or limited here.
    """
    options["ssh_address"] = ssh_address(options["ssh_address"])
    asked = {name: options.pop(name) for name in LIMITS}
    driver, isolation = _choose_driver(options, hidden)
    return BoxSettings(driver, isolation, _limits(asked, box_type, driver))


def _choose_driver(
    options: dict[str, Any], hidden: Sequence[Path]
) -> "tuple[str, Isolation | None]":
    driver: str = options.pop("box_driver") or "process"
    wishes = {name: options.pop(name) for name in (*_ONLY_ISOLATED, "box_network")}
    if driver == "bubblewrap":
        return driver, _isolation(wishes, hidden)
    for name in _ONLY_ISOLATED:
        if wishes[name]:
            option = f"--{name.replace('_', '-')}"
            raise InvalidInput(f"{option}: only with --box-driver bubblewrap")
    if wishes["box_network"] == "none":
        raise InvalidInput("--box-network: only with --box-driver bubblewrap")
    return driver, None


def _isolation(wishes: dict[str, Any], hidden: Sequence[Path]) -> "Isolation":
    """Return how jobs are isolated. Raises InvalidInput; Failure where that does not work here."""
    from boxsched.worker.agent import bubblewrap

    with contextlib.suppress(OSError):  # its use says what is wrong
        hidden[0].mkdir(mode=0o700, parents=True, exist_ok=True)
    asked = bubblewrap.BoxOptions(
        user=wishes["box_user"],
        network=wishes["box_network"] == "host",
        readable=wishes["box_readable"],
        hidden=tuple(hidden),
    )
    try:
        isolation = bubblewrap.isolation(asked)
    except bubblewrap.BadBoxOption as error:
        raise InvalidInput(str(error)) from None
    problem = bubblewrap.probe(isolation)
    if problem is not None:
        advice = bubblewrap.advice(problem)
        raise Failure(f"--box-driver bubblewrap: {problem}; to isolate jobs, {advice}")
    return isolation


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

"""Choose what runs jobs, from the options of ``worker``, ``serve`` and ``demo``."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsched.cli.failing import BadInput, Failure

if TYPE_CHECKING:
    from boxsched.worker.supervisor.isolation import Isolation

_ONLY_ISOLATED = ("box_user", "box_readable")


def choose_driver(
    options: dict[str, Any], *, hidden: Sequence[Path]
) -> "tuple[str, Isolation | None]":
    """Take the options about Boxes out of ``options``. Return the driver and the isolation.

    ``hidden``: what isolated jobs must not see; the first is the data folder. Raises BadInput;
    Failure where jobs cannot be isolated here.
    """
    driver: str = options.pop("box_driver") or "process"
    wishes = {name: options.pop(name) for name in (*_ONLY_ISOLATED, "box_network")}
    if driver == "bubblewrap":
        return driver, _isolation(wishes, hidden)
    for name in _ONLY_ISOLATED:
        if wishes[name]:
            option = f"--{name.replace('_', '-')}"
            raise BadInput(f"{option}: only with --box-driver bubblewrap")
    if wishes["box_network"] == "none":
        raise BadInput("--box-network: only with --box-driver bubblewrap")
    return driver, None


def _isolation(wishes: dict[str, Any], hidden: Sequence[Path]) -> "Isolation":
    """Return how jobs are isolated. Raises BadInput; Failure where that does not work here."""
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
        raise BadInput(str(error)) from None
    problem = bubblewrap.probe(isolation)
    if problem is not None:
        advice = bubblewrap.advice(problem)
        raise Failure(f"--box-driver bubblewrap: {problem}; to isolate jobs, {advice}")
    return isolation

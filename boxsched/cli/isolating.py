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
    options: dict[str, Any], *, hidden: Sequence[Path], default: str
) -> "tuple[str, Isolation | None, str | None]":
    """Take the options about Boxes out of ``options``. Return driver, isolation and a warning.

    ``hidden``: what isolated jobs must not see; the first is the data folder. ``default``: the
    driver if none is given; bubblewrap only where it works. Raises BadInput, Failure.
    """
    given = options.pop("box_driver")
    wishes = {name: options.pop(name) for name in (*_ONLY_ISOLATED, "box_network")}
    driver = given or default
    if driver != "bubblewrap":
        for name in _ONLY_ISOLATED:
            if wishes[name]:
                option = f"--{name.replace('_', '-')}"
                raise BadInput(f"{option}: only with --box-driver bubblewrap")
        if wishes["box_network"] == "none":
            raise BadInput("--box-network: only with --box-driver bubblewrap")
        return driver, None, None
    isolation, problem = _isolation(wishes, hidden)
    if problem is None:
        return driver, isolation, None
    if given or any(wishes[name] for name in _ONLY_ISOLATED) or wishes["box_network"] == "none":
        raise Failure(f"--box-driver bubblewrap: {problem}")
    return "process", None, f"jobs run without isolation, as the user of this worker: {problem}"


def _isolation(
    wishes: dict[str, Any], hidden: Sequence[Path]
) -> "tuple[Isolation, None] | tuple[None, str]":
    """Return how jobs are isolated, or why that does not work here and what to do."""
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
    if problem is None:
        return isolation, None
    return None, f"{problem}; to isolate jobs, {bubblewrap.advice(problem)}"

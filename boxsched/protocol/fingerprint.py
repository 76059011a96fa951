"""A worker's fingerprint: what changes how it runs a job, as named parts in one line of text.

The text has the form ``box_driver=process, protocol=1``. Nodes may require values of parts
(``boxsched serve --require-worker``); the part ``protocol`` is always required. A worker that
differs from what its shard's leader requires is incompatible: it gets no new jobs.
"""

import re
from collections.abc import Mapping

Parts = Mapping[str, str]

PROTOCOL = "protocol"
MAX_CHARACTERS = 2_000  # limit of a fingerprint's length

NO_LIMIT = "none"  # the value of a limit's part
_LIMITS = {"memory": "memory", "cpus": "processors", "processes": "processes", "disk": "disk"}

_BEFORE = "boxsched-worker/"  # the whole fingerprint of an earlier version, before the number
_PART = re.compile(r"([a-z][a-z_]{0,31})=([A-Za-z0-9_.+:/-]{1,64})(?![\s\S])")


def text(parts: Parts) -> str:
    """The parts in one line, sorted by name."""
    return ", ".join(f"{name}={value}" for name, value in sorted(parts.items()))


def parts(fingerprint: str) -> Parts:
    """The parts of a fingerprint. What cannot be read as a part is left out."""
    if fingerprint.startswith(_BEFORE):
        return {PROTOCOL: fingerprint.removeprefix(_BEFORE)[:64]}
    found = map(_PART.match, fingerprint[:MAX_CHARACTERS].split(", "))
    return {part[1]: part[2] for part in found if part is not None}


def requirement(asked: str) -> tuple[str, str]:
    """Read ``box_driver=bubblewrap``. Raises ValueError."""
    part = _PART.match(asked)
    if part is None:
        raise ValueError("must be PART=VALUE, such as box_driver=process")
    return part[1], part[2]


def of_worker(
    *,
    protocol: int,
    version: str,
    box_driver: str,
    log_limit: int,
    stop_grace: float,
    further: Parts,
) -> str:
    """The fingerprint of a worker with these options. ``further``: limits and images of jobs."""
    return text(
        {
            **further,
            PROTOCOL: str(protocol),
            "version": version,
            "box_driver": box_driver,
            "log_limit": str(log_limit),
            "stop_grace": f"{stop_grace:g}",
        }
    )


def differences(worker: Parts, required: Parts) -> tuple[str, ...]:
    """Return a sentence for each part that differs; none: the worker fits.

    If a worker's protocol is not known, it is connected to a node of an earlier version, which has
    already compared it.
    """
    reported = {PROTOCOL: required.get(PROTOCOL), **worker}
    return tuple(
        f"{name} is {reported.get(name, 'not known')}, must be {value}"
        for name, value in sorted(required.items())
        if reported.get(name) != value
    )


def enforced(parts: Parts) -> str:
    """What the worker enforces of its jobs, in one line; "" if it did not say."""
    driver = parts.get("box_driver")
    if driver is None or "memory" not in parts:
        return ""
    isolated = f"isolated by {driver}" if driver not in ("process", "none") else "not isolated"
    limits = [
        f"{parts[name]} {what}"
        for name, what in _LIMITS.items()
        if parts.get(name, NO_LIMIT) != NO_LIMIT
    ]
    return f"{isolated}, {', '.join(limits) or 'no limits'}"

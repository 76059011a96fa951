"""Options that are also environment variables, and the options of commands that have Boxes."""

import ipaddress
import math
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from boxsched.cli.failing import InvalidInput
from boxsched.model import MAX_STOP_GRACE_SECONDS

_C = TypeVar("_C", bound=Callable[..., Any])

MAX_BOXES_OF_A_WORKER = 10_000
MIB = 1 << 20


class FiniteRange(click.FloatRange):
    """A range of finite numbers. Python also reads "nan" and "inf" as numbers."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Limit(click.ParamType[tuple[str | None, float]]):
    """A limit of a job, for all Boxes or for those of one type: ``2G`` or ``linux=2G``.

    ``unit``: of what the number is; a size may end with K, M, G or T.
    """

    def __init__(self, name: str, least: float, most: float, *, is_size: bool = False) -> None:
        self.name = name
        self._least, self._most = least, most
        self._is_size = is_size

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str | None, float]:
        if isinstance(value, tuple):
            return value
        box_type, equals, text = value.rpartition("=")
        if equals and not box_type:
            self.fail(f"{value!r} has no Box type before the =", param, ctx)
        number = _size(text) if self._is_size else _number(text)
        if number is None or not self._least <= number <= self._most:
            self.fail(f"{value!r} must be {self._wanted()}, or TYPE= and that", param, ctx)
        return box_type or None, number

    def _wanted(self) -> str:
        if self._is_size:
            return f"a size of at least {int(self._least) // MIB}M, such as 512M or 2G"
        return f"a number from {self._least:g} to {self._most:g}"


_UNITS = {"K": 1 << 10, "M": MIB, "G": 1 << 30, "T": 1 << 40}


def _size(text: str) -> float | None:
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if found is None:
        return None
    return int(float(found[1]) * _UNITS.get(found[2].upper(), 1))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text) else None


def env_option(name: str, **attributes: Any) -> Callable[[_C], _C]:
    """Make an option that is also an environment variable: --max-boxes is BOXSCHED_MAX_BOXES."""
    variable = "BOXSCHED_" + name.removeprefix("--").partition("/")[0].replace("-", "_").upper()
    return click.option(name, envvar=variable, show_default=True, **attributes)


def boxes_option(at_least: int, help_: str, default: int | None = None) -> Callable[[_C], _C]:
    return env_option(
        "--boxes",
        type=click.IntRange(at_least, MAX_BOXES_OF_A_WORKER),
        default=default,
        metavar="N",
        help=help_ if default is not None else f"{help_} [default: one per core]",
    )


def log_limit_option(at_most: int | None = None) -> Callable[[_C], _C]:
    return env_option(
        "--log-limit",
        type=click.IntRange(1_024, at_most),
        default=16 * MIB,
        metavar="BYTES",
        help="Size limit of a job's log; of the rest, the last 4 MiB are kept.",
    )


def ssh_address(text: str) -> str | None:
    """Return the value of --ssh-address; None: sessions do not listen. Raises InvalidInput."""
    if text == "none":
        return None
    try:
        address = ipaddress.ip_address(text)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        if address.is_unspecified:
            raise InvalidInput("--ssh-address: name one address: clients connect to it")
        socket.create_server((text, 0), family=family).close()
    except ValueError:
        raise InvalidInput(
            "--ssh-address: must be an IP address of this machine, or none"
        ) from None
    except OSError as error:
        raise InvalidInput(f"--ssh-address: cannot listen at {text}: {error.strerror}") from None
    return text


def cache_size_option() -> Callable[[_C], _C]:
    return env_option(
        "--cache-size",
        type=click.IntRange(0),
        default=2 << 30,
        metavar="BYTES",
        help="Size limit of the cache of this machine's jobs; 0 = no cache.",
    )


def box_options(command: _C) -> _C:
    """Add the options about how jobs are isolated and limited."""
    options = (
        env_option(
            "--box-driver",
            type=click.Choice(["auto", "bubblewrap", "podman", "process", "none"]),
            help="What runs jobs: `bubblewrap` isolates them, `podman` does so and runs jobs with "
            "an image in containers, `process` runs them as this user, `auto` is `bubblewrap` if "
            "that works here, else `process`; with `none` every job passes without running (for "
            "bench). [default: auto]",
        ),
        env_option(
            "--box-user",
            metavar="NAME",
            help="User that isolated jobs run as, if this command runs as root. [default: nobody]",
        ),
        env_option(
            "--box-network",
            type=click.Choice(["host", "none"]),
            default="host",
            help="Network of isolated jobs, git included: this machine's, or none.",
        ),
        env_option(
            "--box-readable",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="File or folder that isolated jobs can read, in addition to /usr, /etc and /opt; "
            "can be repeated.",
        ),
        env_option(
            "--image-dir",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="Folder with whole systems in its subfolders, in which jobs may run (`image: "
            "dir:PATH/NAME`); can be repeated.",
        ),
        env_option(
            "--memory",
            multiple=True,
            type=Limit("[TYPE=]SIZE", 32 * MIB, 1 << 50, is_size=True),
            help="Limit of a job's memory, such as 2G; linux=2G is for Boxes of the type linux; "
            "can be repeated.",
        ),
        env_option(
            "--cpus",
            multiple=True,
            type=Limit("[TYPE=]N", 0.01, 10_000),
            help="Limit of the processors that a job uses, such as 1.5; can be repeated.",
        ),
        env_option(
            "--processes",
            multiple=True,
            type=Limit("[TYPE=]N", 16, 4_000_000),
            help="Limit of a job's processes and threads; can be repeated.",
        ),
        env_option(
            "--disk",
            multiple=True,
            type=Limit("[TYPE=]SIZE", MIB, 1 << 50, is_size=True),
            help="Limit of the disk that a job's files take; measured about every second; can be "
            "repeated.",
        ),
        env_option(
            "--ssh-address",
            default="127.0.0.1",
            metavar="ADDRESS",
            help="Address of this machine at which SSH sessions listen for direct connections; "
            "`none`: they are reached only through a node.",
        ),
    )

    for option in reversed(options):
        command = option(command)
    return command


def stop_grace_option(command: _C) -> _C:
    return env_option(
        "--stop-grace",
        type=FiniteRange(min=0, max=MAX_STOP_GRACE_SECONDS),
        default=10.0,
        metavar="S",
        help="Seconds between SIGTERM and SIGKILL at a stop or at a time limit.",
    )(command)

"""Options that are also environment variables, and the options of commands that have Boxes."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

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
        help="Size limit of a job's log; the rest is cut.",
    )


def box_driver_option(command: _C) -> _C:
    return env_option(
        "--box-driver",
        type=click.Choice(["process", "none"]),
        default="process",
        help="What runs jobs; with `none` every job passes without running (for bench).",
    )(command)


def stop_grace_option(command: _C) -> _C:
    return env_option(
        "--stop-grace",
        type=FiniteRange(min=0, max=MAX_STOP_GRACE_SECONDS),
        default=10.0,
        metavar="S",
        help="Seconds between SIGTERM and SIGKILL at a stop or at a time limit.",
    )(command)

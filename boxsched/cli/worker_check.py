"""``boxsched worker --check``: try everything that a worker needs, and say what is wrong."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from boxsched.cli.clean import plain
from boxsched.cli.failing import FAILED, Failure, InvalidInput
from boxsched.cli.isolating import BoxSettings, choose_boxes, secret_files, unisolated
from boxsched.cli.output import print_json
from boxsched.cli.serve import loop_factory

if TYPE_CHECKING:
    from boxsched.protocol.wire import Hello
    from boxsched.worker.remote.checking import Finding
    from boxsched.worker.remote.discovery import Source
    from boxsched.worker.remote.tls import TlsFiles
    from boxsched.worker.remote.worker import WorkerOptions


def check_worker(
    sources: "Sequence[Source]",
    token: Callable[[], str],
    tls: "TlsFiles",
    options: dict[str, Any],
    token_file: Path | None,
    *,
    settle: Callable[[BoxSettings], "WorkerOptions"],
    as_json: bool,
) -> None:
    """Print a line for each check as it ends, or all as JSON; exit with 1 if one failed.

    ``settle``: returns the options with which the worker would start.
    """
    from boxsched.worker.remote.checking import check_folder, check_git, check_nodes
    from boxsched.worker.remote.discovery import SystemNames
    from boxsched.worker.remote.identity import identity
    from boxsched.worker.remote.worker import first_hello

    findings: list[Finding] = []

    def found(finding: "Finding") -> None:
        findings.append(finding)
        if not as_json:
            mark = click.style("ok", fg="green") if finding.ok else click.style("WRONG", fg="red")
            click.echo(f"{mark}\t{finding.what}\t{plain(finding.text)}")

    async def nodes(hello: "Hello | None") -> None:
        async for finding in check_nodes(sources, SystemNames(), token, tls, hello):
            found(finding)

    data: Path = options["data"]
    folder = check_folder(data)
    found(folder)
    found(check_git(data))
    driver, how = _check_driver(options, secret_files(data, token_file, tls))
    found(driver)
    hello = None
    if folder.ok and how is not None:  # otherwise it does not get as far as a node
        hello = first_hello(settle(how), identity(data))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(nodes(hello))
    well = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": well, "checks": [attrs.asdict(finding) for finding in findings]})
    if not well:
        sys.exit(FAILED)


def _check_driver(
    options: dict[str, Any], hidden: Sequence[Path]
) -> "tuple[Finding, BoxSettings | None]":
    from boxsched.worker.remote.checking import Finding
    from boxsched.worker.supervisor.limits import described

    try:
        how = choose_boxes(options, hidden=hidden, box_type=options["box_type"])
    except (InvalidInput, Failure) as error:
        return Finding("Box driver", False, error.format_message()), None
    if how.problem is not None:
        return Finding("Box driver", True, unisolated(how.problem)), how
    limits = described(how.limits)
    text = f"{how.driver} works here" + (f", with limits of {limits}" if limits else "")
    return Finding("Box driver", True, text), how

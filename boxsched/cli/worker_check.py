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
from boxsched.cli.isolating import choose_boxes, secret_files, unisolated
from boxsched.cli.output import print_json
from boxsched.cli.serve import loop_factory

if TYPE_CHECKING:
    from boxsched.worker.remote.checking import Finding
    from boxsched.worker.remote.discovery import Source
    from boxsched.worker.remote.tls import TlsFiles


def check_worker(
    sources: "Sequence[Source]",
    token: Callable[[], str],
    tls: "TlsFiles",
    options: dict[str, Any],
    token_file: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print a line for each check as it ends, or all as JSON; exit with 1 if one failed."""
    from boxsched.worker.remote.checking import check_folder, check_git, check_nodes
    from boxsched.worker.remote.discovery import SystemNames

    findings: list[Finding] = []

    def found(finding: "Finding") -> None:
        findings.append(finding)
        if not as_json:
            mark = click.style("ok", fg="green") if finding.ok else click.style("WRONG", fg="red")
            click.echo(f"{mark}\t{finding.what}\t{plain(finding.text)}")

    async def nodes() -> None:
        async for finding in check_nodes(sources, SystemNames(), token, tls):
            found(finding)

    data: Path = options["data"]
    found(check_folder(data))
    found(check_git(data))
    found(_check_driver(options, secret_files(data, token_file, tls)))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(nodes())
    well = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": well, "checks": [attrs.asdict(finding) for finding in findings]})
    if not well:
        sys.exit(FAILED)


def _check_driver(options: dict[str, Any], hidden: Sequence[Path]) -> "Finding":
    from boxsched.worker.remote.checking import Finding
    from boxsched.worker.supervisor.limits import described

    try:
        how = choose_boxes(options, hidden=hidden, box_type=options["box_type"])
    except (InvalidInput, Failure) as error:
        return Finding("Box driver", False, error.format_message())
    if how.problem is not None:
        return Finding("Box driver", True, unisolated(how.problem))
    limits = described(how.limits)
    text = f"{how.driver} works here" + (f", with limits of {limits}" if limits else "")
    return Finding("Box driver", True, text)

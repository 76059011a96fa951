"""``boxsched stop``."""

import click

from boxsched.cli import naming
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import each_of
from boxsched.cli.output import as_json_option, print_json, standing
from boxsched.cli.waiting import leaving, named, wait_for_restarts
from boxsched.client import Client, Workload


@click.command()
@click.argument("workloads", metavar="ID...", nargs=-1, required=True)
@click.option("--wait", is_flag=True, help="Wait until the jobs have ended.")
@as_json_option
@with_service
def stop(workloads: tuple[str, ...], wait: bool, as_json: bool, service: Service) -> None:
    """Cancel waiting workloads and stop running ones.

    The newest of several workloads is stopped first. So none of them starts because another one of
    its branch or server has ended.

    \b
    Example:  boxsched stop w41
              boxsched stop web#12 web#13 --wait
    """
    found: dict[str, str] = {}  # ids by the arguments
    asked: list[str] = []
    shown: list[object] = []

    async def work(client: Client) -> int:
        async def find(workload: str) -> None:
            found[workload] = await naming.workload_id(client, workload)

        async def ask(id_: str) -> None:
            await client.stop(id_)
            asked.append(id_)

        async def finish(id_: str) -> None:
            done = await (client.wait(id_) if wait else client.workload(id_))
            if as_json:
                shown.append(await client.json("workloads", id_))
            else:
                click.echo(_stopped(done))

        unknown = await each_of({text: text for text in workloads}, find)
        newest_first = sorted(found.items(), key=lambda one: _age(one[1]))
        refused = await each_of(dict(newest_first), ask)
        if wait:
            wait_for_restarts(client)
        ends = {id_: id_ for id_ in found.values() if id_ in asked}
        return max(unknown, refused, await each_of(ends, finish))

    with leaving(lambda: _still_stopping(asked) if wait and asked else None):
        status = service.call(work)
    if as_json:
        print_json(shown[0] if len(workloads) == 1 else {"workloads": shown})
    if status:
        raise click.exceptions.Exit(status)


def _age(id_: str) -> int:
    """Return a sort key: smaller for later workloads, because ids grow."""
    number = id_.removeprefix("w")
    return -int(number) if number.isdecimal() and len(number) < 20 else 0


def _stopped(done: Workload) -> str:
    said = standing(done.state, done.result) if done.finished else "asked to stop"
    return f"{named(done)}: {said}"


def _still_stopping(asked: list[str]) -> str:
    return f"the stop continues without this command; to see it: boxsched show {asked[-1]}"

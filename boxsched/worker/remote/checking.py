"""Try what a worker needs of its data folder and its nodes, without registering a worker."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import attrs
import msgspec
from aiohttp import WSCloseCode, WSMsgType

from boxsched.protocol import wire
from boxsched.worker.agent import readiness
from boxsched.worker.agent.site import FolderInUse
from boxsched.worker.remote import identity
from boxsched.worker.remote.discovery import (
    Discovery,
    Names,
    NodeAddress,
    NotFound,
    Source,
)
from boxsched.worker.remote.link import Lost, RefusedByNode, Socket
from boxsched.worker.remote.messages import printable
from boxsched.worker.remote.opening import connection
from boxsched.worker.remote.polled_socket import PolledSocket
from boxsched.worker.remote.tls import BadTlsFile, TlsFiles

CONNECT_SECONDS = 10.0
_ACCEPTS = "accepts the token"
MAX_NODES = 20  # how many nodes are tried


@attrs.frozen
class Finding:
    """The result of one check. ``what``: the part; ``text``: what was found, or what to do."""

    what: str
    ok: bool
    text: str


def check_folder(data: Path) -> Finding:
    """Check the data folder, its disk, and the programs that jobs need. Blocking."""
    what = "data folder"
    try:
        with identity.owned(data):
            identity.identity(data)
            identity.cluster(data)
            problem = readiness.check(str(data), [readiness.BASH])
    except (FolderInUse, identity.Unusable) as error:
        return Finding(what, False, str(error))
    except OSError as error:
        return Finding(what, False, f"cannot use {data}: {error.strerror}; choose with --data")
    if problem is not None:
        return Finding(what, False, f"{data}: {problem}")
    return Finding(what, True, f"{data} can be used, and bash starts")


def check_git(data: Path) -> Finding:
    """Check git, which clones repositories. Blocking."""
    problem = readiness.check(str(data), [readiness.GIT])
    if problem is not None:
        return Finding("git", False, f"{problem}: jobs of projects with a repository fail here")
    return Finding("git", True, f"{readiness.GIT} starts")


async def check_nodes(
    sources: Sequence[Source],
    names: Names,
    token: Callable[[], str],
    tls: TlsFiles,
    hello: wire.Hello | None,
) -> AsyncIterator[Finding]:
    """Resolve every name, and connect to every node, at most MAX_NODES. ``hello``: what each node
    is asked about; None: only the connection is tried.
    """
    nodes: dict[NodeAddress, None] = {}
    for source in sources:
        discovery = Discovery([source], names)
        try:
            found = await discovery.resolve(source)
        except NotFound as error:
            yield Finding("name", False, f"{source}: {error}")
            continue
        nodes.update(dict.fromkeys(found))
        yield Finding("name", True, f"{source}: {_nodes(len(found))}")
    for node in list(nodes)[:MAX_NODES]:
        yield await _check_node(node, token, tls, hello)
    if len(nodes) > MAX_NODES:
        yield Finding("node", True, f"{len(nodes) - MAX_NODES} more nodes were not tried")


async def _check_node(
    node: NodeAddress, token: Callable[[], str], tls: TlsFiles, hello: wire.Hello | None
) -> Finding:
    try:
        for polls_first in (False, True):
            try:
                return await _connect(node, token(), tls, hello, polls_first=polls_first)
            except TimeoutError:
                continue
    except (Lost, RefusedByNode, BadTlsFile) as error:
        return Finding("node", False, f"{node}: {error}")
    return Finding("node", False, f"{node}: no answer within {CONNECT_SECONDS:g} s")


async def _connect(
    node: NodeAddress,
    token: str,
    tls: TlsFiles,
    hello: wire.Hello | None,
    *,
    polls_first: bool,
) -> Finding:
    began = time.monotonic()
    async with asyncio.timeout(CONNECT_SECONDS) as patience:
        opened = connection(node, token, polls_first=polls_first, tls=tls.context())
        async with opened as socket:
            said = None if hello is None else await _ask(socket, hello)
            patience.reschedule(None)
            took = 1_000 * (time.monotonic() - began)
            if isinstance(socket, PolledSocket):
                how = "long polling, since WebSockets do not get through"
            else:
                how = "WebSocket"
            accepts = _ACCEPTS if said is None else said
            return Finding("node", True, f"{node}: {accepts}; {how}; {took:.0f} ms")


async def _ask(socket: Socket, hello: wire.Hello) -> str:
    """Ask whether the node would accept the Hello; return what it accepts. Raises Lost."""
    try:
        await socket.send_frame(wire.encode(wire.Check(wire.VERSION, hello)), WSMsgType.TEXT)
    except ConnectionError as error:
        raise Lost(f"the node closed the connection: {error}") from None
    message = await socket.receive()
    if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
        try:
            answer = wire.from_node.decode(message.data)
        except msgspec.DecodeError as error:
            raise Lost(f"the node sent an invalid message: {error}") from None
        if isinstance(answer, wire.Refused):
            raise Lost(printable(answer.message))
        if isinstance(answer, wire.WouldAccept):
            but = f", but gives it no jobs: {printable('; '.join(answer.differs))}"
            return "accepts this worker" + (but if answer.differs else "")
    elif socket.close_code == WSCloseCode.POLICY_VIOLATION:
        return f"{_ACCEPTS} (a node of an earlier version does not check more)"
    raise Lost("the node did not answer the check")


def _nodes(count: int) -> str:
    return "1 address" if count == 1 else f"{count} addresses"

"""Private parts of libraries: where we use them, why, and a check that they exist.

Each such library has an upper version in ``setup.cfg``. Before you raise it, run this file and the
tests named here.
"""

import ast
import configparser
import inspect
import re
from typing import Any

import aiohttp.streams
import aiohttp.web_protocol
import aiopg
import attrs
import pytest
from aiohttp import web
from redis.asyncio.connection import AbstractConnection, Connection, parse_url

from tests.conftest import PROJECT


@attrs.frozen
class Use:
    """Our ``name`` in ``file`` uses these ``names`` of ``library``'s class."""

    file: str
    name: str
    library: type
    names: frozenset[str]
    why: str
    tests: str


USES = (
    Use(
        "boxsched/api/http/serving.py",
        "Runner",
        web.AppRunner,
        frozenset({"_make_server"}),
        "AppRunner has no way to say which class of connection its server makes",
        "tests/service/test_deadlines.py",
    ),
    Use(
        "boxsched/api/http/serving.py",
        "HttpServer",
        web.Server,
        frozenset({"_kwargs", "_loop"}),
        "the connections are ours, with the options that aiohttp gives to its own",
        "tests/service/test_deadlines.py",
    ),
    Use(
        "boxsched/api/http/serving.py",
        "HttpConnection",
        aiohttp.web_protocol.RequestHandler,
        frozenset(
            {
                "_close", "_current_request", "_force_close", "_loop", "_messages",
                "_request_count", "_task_handler", "_upgraded", "_waiter",
            }
        ),
        "aiohttp has no deadlines for headers, bodies and unread answers, and no limit an address",
        "tests/service/test_deadlines.py, test_hang_ups.py, test_connections.py",
    ),
    Use(
        "boxsched/store/postgres/aiopg_connection.py",
        "AiopgSession",
        aiopg.Connection,
        frozenset(
            {
                "_conn", "_fileno", "_loop", "_poll", "_ready", "_waiter", "_weakref", "_writing",
            }
        ),
        "aiopg makes a cancellation of what the server canceled, and loses some in wait_for",
        "tests/contract/test_postgres_faults.py, test_outage.py",
    ),
)  # fmt: skip
LIBRARIES = {"aiohttp", "aiopg", "redis"}
names = [f"{use.name} of {use.library.__name__}" for use in USES]


def has(library: type, name: str) -> bool:
    """Whether it is a member of the class, or set by one of its methods."""
    return hasattr(library, name) or any(
        re.search(rf"\bself\.{name}\b[^=\n]*=", inspect.getsource(each))
        for each in library.__mro__[:-1]
        if each.__module__.startswith(library.__module__.partition(".")[0])
    )


@pytest.mark.parametrize("use", USES, ids=names)
def test_the_private_parts_that_we_use_exist(use: Use) -> None:
    missing = {name for name in use.names if not has(use.library, name)}
    assert not missing, f"{use.file} needs {missing} because {use.why}; see {use.tests}"


@pytest.mark.parametrize("use", USES, ids=names)
def test_no_other_private_part_is_used(use: Use) -> None:
    """An underscore name that our class reads but does not define belongs to the library."""
    tree = ast.parse((PROJECT / use.file).read_text())
    [ours] = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == use.name]
    own, read = set[str](), set[str]()
    for node in ast.walk(ours):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            (read if node.name in use.names else own).add(node.name)
        elif isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            stored = isinstance(node.ctx, ast.Store) and node.attr not in use.names
            (own if stored else read).add(node.attr)
    known = {name for other in USES for name in other.names if other.file == use.file}
    assert {name for name in read - own if name.startswith("_")} <= known | _slots(ours)
    assert use.names <= read | _of_the_file(tree), "the table names what is not used any more"


def _slots(ours: ast.ClassDef) -> set[str]:
    return {n.value for n in ast.walk(ours) if isinstance(n, ast.Constant) and type(n.value) is str}


def _of_the_file(tree: ast.Module) -> set[str]:
    return {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}


def test_public_but_undocumented_routes_exist() -> None:
    """Connections of redis-py, without the client, which repeats commands by itself."""
    for name in ("connect", "disconnect", "pack_commands", "send_packed_command", "read_response"):
        assert callable(getattr(AbstractConnection, name)), name
    assert "timeout" in inspect.signature(AbstractConnection.read_response).parameters
    url: Any = parse_url("redis://name:word@127.0.0.1:7000/3")
    assert (url["host"], url["port"], url["db"]) == ("127.0.0.1", 7000, 3)
    assert Connection(**url).host == "127.0.0.1"
    assert aiohttp.streams.EMPTY_PAYLOAD.is_eof()
    assert callable(web.WebSocketResponse.send_frame)
    assert callable(aiohttp.ClientWebSocketResponse.send_frame)


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_each_such_library_has_an_upper_version(library: str) -> None:
    config = configparser.ConfigParser()
    config.read(PROJECT / "setup.cfg")
    asked = config["options"]["install_requires"].split("\n")
    [line] = [line for line in asked if re.match(rf"{library}\W", line)]
    assert re.fullmatch(rf"{library}>=[\d.]+,<[\d.]+", line), line

"""The blocking client has the calls of the asyncio one: names, parameters, docstrings, types."""

import inspect
from collections.abc import Iterator
from typing import assert_type

import pytest

from boxsched.client import BlockingClient, Client, Event, Workload

# These inform a program between two calls; a blocking program has no such moment. A tunnel is a
# WebSocket of asyncio.
ASYNCIO_ONLY = {"patience", "on_trouble", "skew", "ssh_tunnel"}
CALLS = sorted(
    name for name in dir(Client) if not name.startswith("_") and name not in ASYNCIO_ONLY
)


def test_both_clients_have_the_same_calls() -> None:
    assert sorted(name for name in dir(BlockingClient) if not name.startswith("_")) == CALLS


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_the_parameters_and_the_docstring_of_the_asyncio_one(name: str) -> None:
    theirs, ours = getattr(Client, name), getattr(BlockingClient, name)
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    assert inspect.getdoc(ours) == inspect.getdoc(theirs)
    assert ours.__name__ == name


def test_type_checkers_see_parameters_and_results() -> None:
    """mypy checks these assertions; nothing runs."""

    def typed(client: BlockingClient) -> None:
        assert_type(client.build("web", branch="main"), Workload)
        assert_type(client.tokens()[0].name, str)
        assert_type(client.follow_log("w1-1"), Iterator[bytes])
        assert_type(client.events(after=None), Iterator[Event])
        client.build("web", branches="main")  # type: ignore[call-arg]
        client.workload(41)  # type: ignore[arg-type]

    assert callable(typed)

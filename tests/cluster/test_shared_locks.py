"""Two clusters that start at once, in every order of their looks and locks: one is accepted."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from boxsched.cluster.shared_locks import OtherCluster, share

WHAT = 4711
SECONDS = 30.0
ORDERS = sorted(set(itertools.permutations("ab" * 3)))  # each looks, locks, looks


class TurnOrder:
    """Gives turns in an order; after its end anybody may proceed."""

    def __init__(self, order: tuple[str, ...]) -> None:
        self._left = list(order)
        self._changed = threading.Condition()

    def wait_for(self, name: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: not self._left or self._left[0] == name, SECONDS)

    def spoke(self, name: str) -> None:
        with self._changed:
            if self._left and self._left[0] == name:
                self._left.pop(0)
            self._changed.notify_all()

    def gone(self, name: str) -> None:
        with self._changed:
            self._left = [each for each in self._left if each != name]
            self._changed.notify_all()


class Newcomer(threading.Thread):
    """A node's session, which ends if it is refused."""

    def __init__(self, url: str, name: str, number: int, order: TurnOrder) -> None:
        super().__init__(name=name)
        self.let_in = False
        self._number = number
        self._order = order
        self._patience = 20
        self._ended = threading.Event()
        self._session = psycopg2.connect(url)
        self._session.autocommit = True
        self._cursor = self._session.cursor()

    def execute(self, *statement: Any) -> None:
        self._order.wait_for(self.name)
        self._cursor.execute(*statement)
        self._order.spoke(self.name)

    def __iter__(self) -> Iterator[tuple[int]]:
        return iter(self._cursor.fetchall())

    def run(self) -> None:
        try:
            share(self, WHAT, self._number, OtherCluster, self._again)
            self.let_in = True
        except OtherCluster:
            self.end()
        finally:
            self._order.gone(self.name)

    def _again(self) -> bool:
        self._patience -= 1
        return self._patience > 0 and not self._ended.wait(0.02)

    def end(self) -> None:
        self._session.close()


@pytest.mark.parametrize("numbers", [(5, 10), (10, 5)])
def test_one_of_two_newcomers_is_accepted(url: str, numbers: tuple[int, int]) -> None:
    for each in ORDERS:
        order = TurnOrder(each)
        both = [Newcomer(url, n, number, order) for n, number in zip("ab", numbers, strict=True)]
        for one in both:
            one.start()
        for one in both:
            one.join(SECONDS)
        assert [one.let_in for one in both].count(True) == 1, each
        for one in both:
            one.end()


def test_any_number_of_nodes_of_one_cluster_is_accepted(url: str) -> None:
    order = TurnOrder(())
    several = [Newcomer(url, name, 7, order) for name in "abc"]
    for one in several:
        one.start()
    for one in several:
        one.join(SECONDS)
    assert all(one.let_in for one in several)
    for one in several:
        one.end()

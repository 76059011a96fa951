"""What the gateway counts, for /metrics, and what it waits for."""

from collections import Counter

import attrs

from boxsched.backoff import Backoff
from boxsched.protocol.timing import HEARTBEAT_SECONDS, LEVEL_SECONDS, UNKNOWN_AFTER_SECONDS

BEATS_SECONDS = 1.0
assert BEATS_SECONDS < HEARTBEAT_SECONDS < UNKNOWN_AFTER_SECONDS


@attrs.define
class Figures:
    connected: int = 0  # workers, now
    connects: int = 0
    messages: int = 0  # from workers that were let in
    reports: int = 0  # that went into the inbox
    stale_reports: int = 0  # that did not: the worker does not hold the job
    look_ups: int = 0  # queries, each for any number of workers
    levels: int = 0  # sent
    level_seconds: float = 0.0  # from a hint to the level, of all jobs that were new on one
    refused: Counter[str] = attrs.field(factory=Counter)  # workers not let in, by code
    ended: Counter[str] = attrs.field(factory=Counter)  # connections ended from here, by reason


@attrs.frozen
class Times:
    """All in seconds; other values are for tests."""

    hello: float = 10.0  # for a connection to say who it is
    silence: float = UNKNOWN_AFTER_SECONDS
    beats: float = BEATS_SECONDS  # between two writes of heartbeats
    level: float = LEVEL_SECONDS
    poll: float = 0.2  # between look-ups of all, where hints do not reach this node
    poll_fastest: float = 0.02  # while they bring news
    write: float = 10.0  # for a worker to take what is sent
    leave: float = 2.0  # for workers to go by themselves
    hang_up: float = 1.0  # for the other side to answer a close
    first_retry: float = 0.1  # of what the store did not take
    longest_retry: float = 1.0

    def retries(self) -> Backoff:
        return Backoff(self.first_retry, self.longest_retry)

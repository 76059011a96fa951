"""The gateway's counters for /metrics, and its deadlines."""

from collections import Counter

import attrs

from boxsched.backoff import Backoff
from boxsched.protocol.timing import HEARTBEAT_SECONDS, LEVEL_SECONDS, UNKNOWN_AFTER_SECONDS

BEATS_SECONDS = 1.0
assert BEATS_SECONDS < HEARTBEAT_SECONDS < UNKNOWN_AFTER_SECONDS


@attrs.define
class Figures:
    connected: int = 0  # workers that are connected now
    connects: int = 0
    messages: int = 0  # messages from accepted workers
    reports: int = 0  # reports that were put into the inbox
    stale_reports: int = 0  # reports that were not, because the worker does not have the job
    look_ups: int = 0  # look-up queries, each for any number of workers
    levels: int = 0  # levels that were sent
    level_seconds: float = 0.0  # total time from the hint to the level, for all new jobs
    cache: Counter[str] = attrs.field(factory=Counter)  # what the workers' caches did
    refused: Counter[str] = attrs.field(factory=Counter)  # refused workers, by code
    # connections that this node ended, by reason
    ended: Counter[str] = attrs.field(factory=Counter)


@attrs.frozen
class Times:
    """The gateway's deadlines and intervals in seconds; tests use other values."""

    hello: float = 10.0  # deadline of the Hello
    silence: float = UNKNOWN_AFTER_SECONDS
    beats: float = BEATS_SECONDS  # between two writes of heartbeats
    level: float = LEVEL_SECONDS
    poll: float = 0.2  # between look-ups of all workers while hints do not reach this node
    poll_fastest: float = 0.02  # the same while look-ups find changes
    write: float = 10.0  # deadline for a worker to read what is sent
    leave: float = 2.0  # time for workers to disconnect by themselves
    hang_up: float = 1.0  # deadline for the other side to answer a close
    first_retry: float = 0.1  # first pause before a write that the store refused is repeated
    longest_retry: float = 1.0

    def retries(self) -> Backoff:
        return Backoff(self.first_retry, self.longest_retry)

"""Figures that users and operators rely on: the documents name them, and the code has them.

A changed constant fails here, and so does a changed sentence. Change both, or neither.
"""

from pathlib import Path

import click
import pytest

from boxsched import model, service
from boxsched.api.auth import sessions
from boxsched.api.http import bodies, connection_limits, deadlines, payloads, serving
from boxsched.api.messages import requests
from boxsched.api.resources import activity, events, logs
from boxsched.automation import backlog, plans, repositories
from boxsched.cli.serve import serve
from boxsched.cluster import lock_session
from boxsched.engine import endings, limits, watch
from boxsched.feed import feed
from boxsched.node import pruning, retention, slices
from boxsched.outgoing import retrying
from boxsched.protocol import timing
from boxsched.protocol.shards import LOST_RETRIES
from boxsched.store import driver
from boxsched.store.steps import history, maintenance, pages, project_versions, projects
from boxsched.webhooks import signatures
from boxsched.worker.session import connections, server
from boxsched.worker.supervisor import joblog
from tests.conftest import PROJECT

DAY = 86_400
MIB = 1 << 20
OPERATING, FAULTS, API, JOB_FILES, WEBHOOKS, SSH = (
    PROJECT / "docs" / f"{name}.md"
    for name in ("operating", "faults", "api", "job-files", "webhooks", "ssh")
)
README = PROJECT / "README.md"

Figure = tuple[float, float, Path, str]  # in the code, as promised, where, and in which words

FIGURES: tuple[Figure, ...] = (
    # Workers that are silent, or do not do what they should.
    (timing.UNKNOWN_AFTER_SECONDS, 15, FAULTS, "| 15 s without a heartbeat | its jobs are"),
    (timing.LOST_AFTER_SECONDS, 120, FAULTS, "| the worker's `--lost-after` (120 s) |"),
    (timing.GIVEN_AGAIN_SECONDS, 10, FAULTS, "| 10 s later | the leader gives these jobs again"),
    (watch.NODE_GONE_SECONDS, 4, OPERATING, "4 s later nothing new is given"),
    (limits.END_SLACK_SECONDS, 5, OPERATING, "and 5 s (30 s for a job that never began)"),
    (limits.BEGIN_SLACK_SECONDS, 30, OPERATING, "and 5 s (30 s for a job that never began)"),
    (limits.GIVE_UP_SLACK_SECONDS, 25, OPERATING, "`--stop-grace` and 25 s after that"),
    # Requests and connections.
    (deadlines.HEADER_SECONDS, 10, OPERATING, "same connection | 10 s from their first byte"),
    (deadlines.BODY_SECONDS, 30, OPERATING, "30 s from the end of its headers; 1 MiB"),
    (deadlines.WRITE_SECONDS, 10, OPERATING, "10 s in which the client reads nothing of it"),
    (serving.KEEPALIVE_SECONDS, 30, OPERATING, "a connection with no request on it | 30 s"),
    (connection_limits.ANONYMOUS_SHARE, 0.1, OPERATING, "A tenth of them, at least 20"),
    (connection_limits.ANONYMOUS_AT_LEAST, 20, OPERATING, "A tenth of them, at least 20"),
    (service.NOTICED_SECONDS, 1.5, OPERATING, "503 there for 1.5 s while it answers"),
    (events.KEEPALIVE_SECONDS, 15, OPERATING, "An event stream says something every 15 s"),
    (logs.PART_SECONDS, 20, OPERATING, "a log in parts of at most 20 s"),
    (driver.READ_SECONDS, 1.5, OPERATING, "A read that takes more than 1.5 s"),
    (driver.ACQUIRE_SECONDS, 1, OPERATING, "finds no connection within 1 s"),
    (pages.LOOKED_AT_MOST, 10_000, OPERATING, "10,000 workloads at most"),
    (pages.JOBS_AT_MOST, 2_000, OPERATING, "has 2,000 jobs at most"),
    (bodies.MAX_BODY_BYTES, MIB, API, "the body is over 1 MiB (of a webhook 25 MiB)"),
    (payloads.MAX_PAYLOAD_BYTES, 25 * MIB, API, "the body is over 1 MiB (of a webhook 25 MiB)"),
    (payloads.ARRIVING_BYTES, 64 * MIB, WEBHOOKS, "more than 64 MiB of bodies arrive at once"),
    (signatures.MAX_AGE_SECONDS, 300, WEBHOOKS, "a timestamp that is more than 300 s off"),
    (feed.POLL_SECONDS, 0.2, OPERATING, "what took milliseconds takes up to 0.2 s"),
    # What a job may have.
    (model.MAX_JOBS_A_WORKLOAD, 1_000, API, "At most 1,000 jobs in a workload"),
    (model.MAX_NAME_CHARACTERS, 255, API, "255 characters in the name of a branch"),
    (model.DEFAULT_TIMEOUT_SECONDS, 3_600, JOB_FILES, "default 3600, at most 30 days"),
    (requests.MAX_TIMEOUT_SECONDS, 30 * DAY, JOB_FILES, "default 3600, at most 30 days"),
    (joblog.LOG_LIMIT_BYTES, 16 * MIB, README, "the most that is kept of a job's log (16 MiB)"),
    (joblog.TAIL_BYTES, 4 * MIB, README, "without the 4 MiB of its end"),
    # SSH sessions.
    (server.MAX_CONNECTIONS, 20, SSH, "has at most 20 connections, with 10 channels each"),
    (connections.MAX_CHANNELS, 10, SSH, "has at most 20 connections, with 10 channels each"),
    (server.MAX_STRANGERS, 10, SSH, "10 connections of each listener that have not yet proved"),
    (server.LOGIN_SECONDS, 20, SSH, "They have 20 seconds to do so."),
    # Files of jobs.
    (repositories.MAX_FILE_BYTES, 256 * 1024, JOB_FILES, "YAML or JSON, at most 256 KiB"),
    (repositories.MAX_FETCH_BYTES, 256 * MIB, JOB_FILES, "git would fetch more than 256 MiB"),
    (repositories.MAX_SECONDS, 60, JOB_FILES, "git takes longer than 60 s | it is tried twice"),
    (backlog.AT_ONCE, 8, JOB_FILES, "A node reads 8 files at the same time, 2 of one project"),
    (
        backlog.AT_ONCE_OF_A_PROJECT,
        2,
        JOB_FILES,
        "reads 8 files at the same time, 2 of one project",
    ),
    # What is kept.
    (retention.DELIVERY_SECONDS, 7 * DAY, OPERATING, "Deliveries of code hosts: 7 days."),
    (retention.KEY_SECONDS, 7 * DAY, OPERATING, "An `Idempotency-Key`: 7 days."),
    (retention.TOKEN_SECONDS, 30 * DAY, OPERATING, "expired, or was revoked: 30 days."),
    (retention.NODE_SECONDS, 30 * DAY, OPERATING, "its in-process worker: 30 days;"),
    (retention.SET_ASIDE_SECONDS, 30 * DAY, OPERATING, "latest 1,000 are kept, for 30 days;"),
    (retention.SET_ASIDE_AT_MOST, 1_000, OPERATING, "The latest 1,000 are kept, for 30 days;"),
    (sessions.SESSION_SECONDS, DAY / 2, OPERATING, "A session of the page: 12 hours"),
    (project_versions.KEPT_VERSIONS, 100, OPERATING, "a project's settings: the latest 100"),
    (pruning.LEAST_DAYS, 8, OPERATING, "refuses to delete events of the last 8 days"),
    (slices.SLICE_SECONDS, 0.05, OPERATING, "less where that takes longer than 50 ms"),
    (slices.PAUSES, 5, OPERATING, "A pause of five times as long follows"),
    (pruning.CLOCKS_DIFFER_SECONDS, DAY, OPERATING, "differ by more than a day"),
    (projects.BEFORE_SECONDS, DAY, WEBHOOKS, "For 24 hours deliveries may be signed with either"),
    (retrying.GIVEN_UP_SECONDS, DAY, README, "that fails is tried again for a day"),
    # After a restored backup.
    (maintenance.JUMP, 1_000_000, OPERATING, "go on a million later (100,000 for workloads)"),
    (history.IDS_SKIPPED, 100_000, OPERATING, "go on a million later (100,000 for workloads)"),
    (activity.NOTICE_SECONDS, 7 * DAY, OPERATING, "the page says for a week"),
)


@pytest.mark.parametrize(("value", "promised", "page", "words"), FIGURES, ids=range(len(FIGURES)))
def test_a_figure_is_as_the_documents_say(
    value: float, promised: float, page: Path, words: str
) -> None:
    assert value == promised
    assert words in " ".join(page.read_text().split()), page.name


def test_a_repository_that_is_not_reached_is_tried_six_times_in_half_a_minute() -> None:
    assert "six times in about half a minute" in JOB_FILES.read_text()
    pauses = [plans.FIRST_PAUSE_SECONDS]
    while pauses[-1] < plans.LAST_PAUSE_SECONDS:
        pauses.append(2 * pauses[-1])
    assert (len(pauses) + 1, sum(pauses)) == (6, 31)


def test_a_repository_that_hangs_is_tried_twice() -> None:
    once = repositories.MAX_SECONDS
    assert once < plans.GIVE_UP_SECONDS <= 2 * once + plans.FIRST_PAUSE_SECONDS


def test_another_node_leads_within_half_a_second_or_three_and_a_half() -> None:
    """A killed leader's locks are free at once, a frozen leader's once the server has ended its
    session; the others check every ``PING_SECONDS``."""
    assert "another leads within half a second (killed) or 3.5 s (frozen" in OPERATING.read_text()
    looks = 2 * lock_session.PING_SECONDS
    assert looks <= 0.25
    assert lock_session.SESSION_SECONDS + looks <= 3.25
    assert lock_session.TRUST_SECONDS <= lock_session.SESSION_SECONDS - 0.5, "it ends before that"
    assert lock_session.CLAIM_SECONDS > lock_session.SESSION_SECONDS


def test_an_event_whose_hint_is_lost_is_a_second_late() -> None:
    assert (feed.HINTED_POLL_SECONDS, feed.LEAST_SECONDS) == (1.0, 0.05)


def test_the_history_is_kept_for_at_least_as_long_as_the_database_refuses_to_delete_it() -> None:
    [option] = (each for each in serve.params if each.name == "keep_history")
    assert option.type.convert(pruning.LEAST_DAYS, option, None) == pruning.LEAST_DAYS
    with pytest.raises(click.BadParameter):
        option.type.convert(pruning.LEAST_DAYS - 1, option, None)


def test_how_often_a_job_is_started() -> None:
    assert (1 + LOST_RETRIES, endings.BEGINNINGS_AT_MOST) == (3, 10)

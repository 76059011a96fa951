"""After a restored backup or a failover, readers are told to read everything again, and the page
says why."""

import asyncio
from typing import Any

from boxsched.api.resources.activity import NOTICE_SECONDS, notice_of
from boxsched.store.records import DatabaseHistory
from boxsched.store.steps import maintenance
from tests.service.running_service import API, RunningService


async def jumped(service: RunningService) -> None:
    """Mark the history as the first session on a new timeline does."""
    await service.node.store._driver.serving.write(maintenance.restored)


async def test_a_reader_is_disconnected_and_must_read_everything_again(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project()
    await boxless_service.build()
    last = (await boxless_service.get("/activity"))["cursor"]
    shard, batch, n = (int(part) for part in last.split("."))
    lost = f"{shard}.{batch + 3}.{n}"  # a reader saw it, but the database does not have it
    async with asyncio.timeout(30):
        async with boxless_service.node.feed.subscribe(None) as events:
            await boxless_service.node.feed.poll()
            await jumped(boxless_service)
            await boxless_service.node.feed.poll()
            assert [event async for event in events] == []
    await boxless_service.build()
    answer = await boxless_service.call("GET", f"{API}/events?after={lost}")
    assert answer.status == 422
    assert "read the current state again" in answer.json["error"]["message"]


async def test_the_page_gets_a_notice_about_missing_data(boxless_service: RunningService) -> None:
    assert (await boxless_service.get("/activity"))["notice"] is None
    await jumped(boxless_service)
    notice: dict[str, Any] = (await boxless_service.get("/activity"))["notice"]
    assert "A backup of the database was restored" in notice["text"]
    assert "may be missing" in notice["text"]


def test_a_notice_of_a_failover_is_shown_for_a_week() -> None:
    told = notice_of(DatabaseHistory(restored=False, timeline=3, began_at=1_000.0), 1_000.0)
    assert told is not None
    assert "failed over at 1970-01-01T00:16:40" in told.text and "timeline 3" in told.text
    after = 1_001.0 + NOTICE_SECONDS
    assert notice_of(DatabaseHistory(restored=False, timeline=3, began_at=1_000.0), after) is None

"""The Python client: ``Client`` for asyncio, ``BlockingClient`` for everything else.

    async with Client("http://127.0.0.1:8080", token) as client:
        build = await client.build("web", branch="main")
        done = await client.wait(build.id)

Refusals are the errors of ``boxsched.errors``, with the answer's ``code`` and ``field``; a
service that cannot be reached is ``Unreachable``. Every call may be repeated, and is, while the
service is away: submissions carry an ``Idempotency-Key`` that the client makes, so that none counts
twice.
"""

from boxsched.client.asynchronous import Client
from boxsched.client.blocking import BlockingClient
from boxsched.client.projects import ProjectCheck, ProjectHistory, ProjectVersion
from boxsched.client.records import (
    Activity,
    Box,
    Boxes,
    Delivery,
    Event,
    Explanation,
    Job,
    NewToken,
    Node,
    Notice,
    Notification,
    Page,
    Pause,
    Project,
    Rotated,
    Secret,
    Server,
    SetAside,
    Token,
    Worker,
    Workload,
)
from boxsched.client.refusals import Unreachable
from boxsched.client.schedules import Schedule

__all__ = [
    "Activity",
    "BlockingClient",
    "Box",
    "Boxes",
    "Client",
    "Delivery",
    "Event",
    "Explanation",
    "Job",
    "NewToken",
    "Node",
    "Notice",
    "Notification",
    "Page",
    "Pause",
    "Project",
    "ProjectCheck",
    "ProjectHistory",
    "ProjectVersion",
    "Rotated",
    "Schedule",
    "Secret",
    "Server",
    "SetAside",
    "Token",
    "Unreachable",
    "Worker",
    "Workload",
]

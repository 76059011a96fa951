"""The Python client: ``Client`` for asyncio, ``BlockingClient`` for everything else.

    async with Client("http://127.0.0.1:8080", token) as client:
        build = await client.build("web", branch="main")
        done = await client.wait(build.id)

When the service refuses a call, the client raises an error of ``boxsched.errors`` with the answer's
``code`` and ``field``. When it cannot reach the service, it raises ``Unreachable``. While the
service is away, the client repeats calls. It sends submissions with an ``Idempotency-Key``, so that
a repeated submission counts once.
"""

from boxsched.client.asynchronous import Client
from boxsched.client.blocking import BlockingClient
from boxsched.client.projects import ProjectCheck, ProjectHistory, ProjectVersion
from boxsched.client.records import (
    Activity,
    Artifact,
    Box,
    Boxes,
    Delivery,
    Drain,
    Event,
    Explanation,
    Ghost,
    Job,
    Me,
    NewToken,
    Node,
    Notice,
    Notification,
    Organization,
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
    "Artifact",
    "BlockingClient",
    "Box",
    "Boxes",
    "Client",
    "Delivery",
    "Drain",
    "Event",
    "Explanation",
    "Ghost",
    "Job",
    "Me",
    "NewToken",
    "Node",
    "Notice",
    "Notification",
    "Organization",
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

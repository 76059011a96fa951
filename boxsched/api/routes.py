"""The table of routes: path, handler, the right that it asks for, description in openapi.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from activity_monitor.pages import VIEWS
from boxsched.api.auth.known_tokens import KnownTokens
from boxsched.api.auth.rights import Asked, Open, Right
from boxsched.api.http.guard import Handler
from boxsched.api.http.parameters import YES_OR_NO
from boxsched.api.http.recent import RecentAnswers
from boxsched.api.messages.answers import WorkloadAnswer, WorkloadList
from boxsched.api.messages.explanation import Explanation
from boxsched.api.messages.requests import (
    AskBuild,
    AskDeploy,
    AskDrain,
    AskPause,
    AskPriority,
    AskResolve,
    AskRevert,
    AskRotate,
    AskSecret,
    AskSession,
    AskToken,
    Nothing,
    OrganizationSettings,
    ProjectSettings,
)
from boxsched.api.openapi import PREFIX, Described, Query
from boxsched.api.openapi_schemas import NAME
from boxsched.api.resources.activity import ActivityAnswer, ActivityRoutes
from boxsched.api.resources.artifacts import (
    ArtifactList,
    ArtifactRoutes,
    AskKeep,
    GivenList,
    MissingAnswer,
    PartAnswer,
)
from boxsched.api.resources.deliveries import DeliveryList, DeliveryRoutes
from boxsched.api.resources.draining import DrainRoutes
from boxsched.api.resources.events import EventRoutes
from boxsched.api.resources.fleet import BoxList, FleetRoutes, WorkerAnswer, WorkerList
from boxsched.api.resources.ghosts import GhostAnswer, GhostList, GhostRoutes
from boxsched.api.resources.logs import MAX_NUMBER_DIGITS, LogRoutes
from boxsched.api.resources.me import MeAnswer, me
from boxsched.api.resources.nodes import NodeList, NodeRoutes
from boxsched.api.resources.notifications import (
    NotificationAnswer,
    NotificationList,
    NotificationRoutes,
)
from boxsched.api.resources.operations import Health, OperationRoutes
from boxsched.api.resources.organizations import (
    OrganizationAnswer,
    OrganizationList,
    OrganizationRoutes,
)
from boxsched.api.resources.pauses import PauseAnswer, PauseList, PauseRoutes
from boxsched.api.resources.priorities import PriorityRoutes
from boxsched.api.resources.project_history import (
    MAX_LIMIT as MAX_VERSIONS,
)
from boxsched.api.resources.project_history import (
    History,
    ProjectHistoryRoutes,
    WholeVersion,
)
from boxsched.api.resources.projects import ProjectCheck, ProjectList, ProjectRoutes
from boxsched.api.resources.resolving import ResolveRoutes
from boxsched.api.resources.schedules import ProjectSchedules, ScheduleList, ScheduleRoutes
from boxsched.api.resources.secrets import PutSecretAnswer, RotateAnswer, SecretList, SecretRoutes
from boxsched.api.resources.servers import ServerList, ServerRoutes
from boxsched.api.resources.set_aside import SetAsideAnswer, SetAsideList, SetAsideRoutes
from boxsched.api.resources.ssh_tunnels import SshTunnelRoutes
from boxsched.api.resources.submissions import SubmissionRoutes
from boxsched.api.resources.tokens import NewTokenAnswer, TokenList, TokenRoutes
from boxsched.api.resources.webhooks import DeliveryAnswer, WebhookRoutes
from boxsched.api.resources.worker_polls import PolledConnection, WorkerPollRoutes
from boxsched.api.resources.worker_socket import WorkerRoutes
from boxsched.api.resources.workloads import MAX_LIMIT, WorkloadRoutes
from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.api.submitting.project_changes import ProjectChanges
from boxsched.model import Kind
from boxsched.node.node import Node
from boxsched.protocol import wire
from boxsched.states import SERVICE_RESULTS, State
from boxsched.store.delivery_records import DeliveryResult
from boxsched.store.steps.notifications import STATES

# The Activity Monitor's own routes. They are public: without a session they show the sign-in form.
PAGE_POLICIES: Mapping[tuple[str, str], Asked] = {
    ("GET", "/"): Open.EVERYONE,
    **{("GET", view.path): Open.EVERYONE for view in VIEWS},
    ("GET", "/sign-in"): Open.EVERYONE,
    ("POST", "/sign-in"): Open.EVERYONE,
    ("GET", "/sign-out"): Open.EVERYONE,
    ("POST", "/sign-out"): Open.EVERYONE,
    ("GET", "/static/{version}/{name}"): Open.EVERYONE,
}

SCHEMA = f"{PREFIX}/job-file.schema.json"
_PROJECT = f"{PREFIX}/projects/{{project:[^/]+}}"
_WORKLOAD = f"{PREFIX}/workloads/{{workload:[^/]+}}"
_JOB = f"{PREFIX}/jobs/{{job:[^/]+}}"
_TOKEN = f"{PREFIX}/tokens/{{id:[^/]+}}"
_WORKER = f"{PREFIX}/workers/{{worker:[^/]+}}"
_NODE = f"{PREFIX}/nodes/{{node:[^/]+}}"
_COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0, "maximum": 10**MAX_NUMBER_DIGITS - 1}
_POLL_REFUSALS = (400, 408, 409, 413, 421)
_SHA256: Mapping[str, Any] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_LEASE = Query("lease_token", "the job's lease", _COUNT, required=True)
_OFFSET = Query("offset", "the part's first byte", _COUNT, required=True)
_ARTIFACT = (
    Query("size", "the whole file's size in bytes", _COUNT, required=True),
    Query("sha256", "the whole file's SHA-256, in hex", _SHA256, required=True),
    Query("executable", "1: the file is executable", {"enum": ["0", "1"]}),
)
_AFTER = Query("after", "the id of the last event seen, as Last-Event-ID")
_FOLLOW = Query("follow", "1: continue until the job ends", {"enum": sorted(YES_OR_NO)})
_STAMPS = Query("timestamps", "1: the time before each line", {"enum": sorted(YES_OR_NO)})
_PART = (
    Query("attempt", "the bytes of this attempt (default: the latest)", _COUNT),
    Query("offset", "the bytes from this offset on; headers describe the part", _COUNT),
)
_PAGE = (
    Query("limit", "how many", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    Query("cursor", "next_cursor of the page before"),
)
_FILTERS = (
    Query("kind", "only these", {"enum": list(Kind)}),
    Query("state", "only these", {"enum": list(State)}),
    Query("result", "only finished ones with this result", {"enum": list(SERVICE_RESULTS)}),
    Query("project", "only of this project", NAME),
    Query("number", "only this number of `project`; no other filter is allowed", _COUNT),
    Query("branch", "only of this branch", NAME),
    Query("server", "only of this server", NAME),
    Query("why", "1: also say why each waits", {"enum": sorted(YES_OR_NO)}),
    *_PAGE,
)
_NOTIFICATIONS = (Query("state", "only these", {"enum": list(STATES)}), *_PAGE)
_VERSIONS = (
    Query("limit", "how many", {"type": "integer", "minimum": 1, "maximum": MAX_VERSIONS}),
    Query("cursor", "next_cursor of the page before"),
)

_DELIVERIES = (
    Query("project", "only this project's", NAME),
    Query("result", "only these", {"enum": list(DeliveryResult)}),
    Query("limit", "how many", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    Query("cursor", "next_cursor of the page before"),
)


@attrs.frozen
class Route:
    method: str
    path: str
    handler: Handler
    what: Described
    asks: Asked
    head: bool = False  # also answers HEAD, for load balancers
    lasting: bool = False  # its answer may never end, so it is cut when its token becomes invalid


def project_routes(
    projects: ProjectRoutes, servers: ServerRoutes, asks: SubmissionRoutes
) -> Sequence[Route]:
    one = ProjectSettings
    put = Described(
        "Create or replace a project's settings", one, one, 201, 200,
        matched=("If-Match", "If-None-Match"),
    )  # fmt: skip
    check = Described("What these settings would change", one, ProjectCheck)
    return (
        asking(f"{_PROJECT}/builds", asks.build, "Build a branch or a tag", AskBuild, Right.SUBMIT),
        asking(f"{_PROJECT}/deploys", asks.deploy, "Deploy to a server", AskDeploy, Right.DEPLOY),
        asking(
            f"{_PROJECT}/ssh-sessions",
            asks.session,
            "Open an SSH session",
            AskSession,
            Right.SUBMIT,
        ),
        Route("PUT", _PROJECT, projects.put, put, Right.CONFIGURE),
        Route("POST", f"{_PROJECT}/check", projects.check, check, Right.CONFIGURE),
        reading(_PROJECT, projects.get, "A project's settings", one),
        deleting(_PROJECT, projects.delete, "Delete a project", Right.CONFIGURE),
        reading(f"{_PROJECT}/servers", servers.list, "What is live on its servers", ServerList),
        reading(f"{PREFIX}/projects", projects.list, "All projects", ProjectList),
    )


def history_routes(history: ProjectHistoryRoutes) -> Sequence[Route]:
    path = f"{_PROJECT}/history"
    listed = Described("Versions of its settings, latest first", gives=History, query=_VERSIONS)
    revert = Described(
        "Bring back the settings of a version", AskRevert, ProjectSettings, matched=("If-Match",)
    )
    return (
        Route("GET", path, history.list, listed, Right.READ),
        reading(f"{path}/{{version:[^/]+}}", history.one, "A version", WholeVersion),
        Route("POST", f"{_PROJECT}/revert", history.revert, revert, Right.CONFIGURE),
    )


def session_routes(tunnels: SshTunnelRoutes) -> Sequence[Route]:
    enter = Described(
        "A way into an SSH session: a WebSocket with the bytes of SSH", status=101, refuses=(409,)
    )
    return (Route("GET", f"{_WORKLOAD}/ssh", tunnels.enter, enter, Right.SUBMIT, lasting=True),)


def workload_routes(
    workloads: WorkloadRoutes,
    asks: SubmissionRoutes,
    priorities: PriorityRoutes,
    resolving: ResolveRoutes,
    logs: LogRoutes,
) -> Sequence[Route]:
    listed = Described("Workloads, newest first", gives=WorkloadList, query=_FILTERS)
    stop = Described("Cancel or stop a workload", Nothing, WorkloadAnswer, 202, keyed=True)
    bump = Described(
        "Change the priority of a waiting workload", AskPriority, WorkloadAnswer, 202, keyed=True
    )
    resolve = Described(
        "Set the result of a job whose worker is away", AskResolve, WorkloadAnswer, 202, keyed=True
    )
    log = Described("A job's output", content_type="text/plain", query=(_FOLLOW, _STAMPS, *_PART))
    return (
        Route("GET", f"{PREFIX}/workloads", workloads.list, listed, Right.READ),
        reading(_WORKLOAD, workloads.one, "A workload with its jobs", WorkloadAnswer),
        reading(
            f"{_WORKLOAD}/explanation", workloads.explanation, "Why a workload waits", Explanation
        ),
        Route("POST", f"{_WORKLOAD}/stop", workloads.stop, stop, Right.STOP),
        Route("POST", f"{_WORKLOAD}/priority", priorities.change, bump, Right.OPERATE),
        asking(
            f"{_WORKLOAD}/rebuild",
            asks.rebuild,
            "Submit the same jobs again",
            Nothing,
            Right.SUBMIT,
        ),
        Route("POST", f"{_JOB}/resolve", resolving.resolve, resolve, Right.OPERATE),
        Route("GET", f"{_JOB}/log", logs.log, log, Right.READ, lasting=True),
    )


def artifact_routes(artifacts: ArtifactRoutes) -> Sequence[Route]:
    path, one = f"{_JOB}/artifacts", f"{_JOB}/artifacts/{{path:.+}}"
    given, worker = f"{_JOB}/given-artifacts", Right.WORK
    download = Described("An artifact's content", content_type="application/octet-stream")
    keep = Described("Begin to store a job's artifacts (for workers)", AskKeep, MissingAnswer)
    put = Described(
        "Store a part of an artifact (for workers)",
        gives=PartAnswer,
        query=(_LEASE, _OFFSET, *_ARTIFACT),
        refuses=(400, 408, 413),
    )
    listed = Described(
        "What a deploy gets of its build (for workers)", gives=GivenList, query=(_LEASE,),
        refuses=(409,),
    )  # fmt: skip
    content = Described(
        "A part of such a file (for workers)",
        content_type="application/octet-stream",
        query=(_LEASE, _OFFSET),
        refuses=(409,),
    )
    return (
        reading(path, artifacts.list, "The artifacts of a job", ArtifactList),
        Route("GET", one, artifacts.download, download, Right.READ),
        Route("POST", path, artifacts.keep, keep, worker),
        Route("PUT", one, artifacts.put, put, worker),
        Route("GET", given, artifacts.given, listed, worker),
        Route("GET", f"{given}/{{sha256:[^/]+}}", artifacts.content, content, worker),
    )


def pause_routes(pauses: PauseRoutes) -> Sequence[Route]:
    path = f"{PREFIX}/pauses"
    pause = f"{path}/{{pause:[^/]+}}"
    put = Described("Begin a pause, or replace it", AskPause, PauseAnswer, 201, 200)
    return (
        Route("PUT", pause, pauses.put, put, Right.OPERATE),
        reading(path, pauses.list, "All pauses", PauseList),
        deleting(pause, pauses.end, "End a pause", Right.OPERATE),
    )


def schedule_routes(schedules: ScheduleRoutes) -> Sequence[Route]:
    of_project = "A project's schedules, and when each comes next"
    listed = Described("The schedules of all projects", gives=ScheduleList, query=_PAGE)
    return (
        reading(f"{_PROJECT}/schedules", schedules.of_project, of_project, ProjectSchedules),
        Route("GET", f"{PREFIX}/schedules", schedules.all, listed, Right.READ),
    )


def worker_routes(workers: WorkerRoutes, polls: WorkerPollRoutes) -> Sequence[Route]:
    """Return the routes of external workers, for tokens of role worker."""
    speak = Described("A worker's connection: a WebSocket", status=101)
    open_ = Described(
        "Begin long polling instead of a WebSocket", gives=PolledConnection, status=201
    )
    send = Described(
        "Messages of a worker that uses long polling",
        status=204,
        query=(
            Query("number", "1, 2, 3 ...; of a repeated request: the same", _COUNT, required=True),
        ),
        refuses=_POLL_REFUSALS,
    )
    receive = Described(
        "Messages for a worker that uses long polling, one a line",
        content_type="text/plain",
        query=(Query("after", "how many messages the worker has", _COUNT, required=True),),
        refuses=_POLL_REFUSALS,
    )
    close = Described("End a worker's long polling", status=204, refuses=(421,))
    dialled = Described("A worker's tunnel to an SSH session: a WebSocket", status=101)
    send_bytes = Described(
        "Messages of a tunnel, from a worker that uses long polling, each after its length "
        "(4 bytes, big-endian)",
        status=204,
        query=send.query,
        refuses=_POLL_REFUSALS,
    )
    receive_bytes = Described(
        "Messages of a tunnel, for a worker that uses long polling, each after its length",
        content_type="application/octet-stream",
        query=receive.query,
        refuses=_POLL_REFUSALS,
    )
    close_tunnel = Described("End a tunnel that uses long polling", status=204, refuses=(421,))
    tunnel = f"{wire.TUNNELS}/{{tunnel:[^/]+}}"
    bytes_ = f"{tunnel}/polls"
    one = f"{wire.POLLS}/{{connection:[^/]+}}"
    return (
        Route("GET", wire.PATH, workers.connect, speak, Right.WORK, lasting=True),
        Route("GET", tunnel, workers.tunnel, dialled, Right.WORK, lasting=True),
        Route("POST", bytes_, polls.send_bytes, send_bytes, Right.WORK),
        Route("GET", bytes_, polls.receive_bytes, receive_bytes, Right.WORK, lasting=True),
        Route("DELETE", bytes_, polls.close_tunnel, close_tunnel, Right.WORK),
        Route("POST", wire.POLLS, polls.open, open_, Right.WORK),
        Route("POST", one, polls.send, send, Right.WORK),
        Route("GET", one, polls.receive, receive, Right.WORK, lasting=True),
        Route("DELETE", one, polls.close, close, Right.WORK),
    )


def fleet_routes(fleet: FleetRoutes, draining: DrainRoutes, nodes: NodeRoutes) -> Sequence[Route]:
    drain = Described("Give a worker no new jobs, and end it", AskDrain, WorkerAnswer, 202)
    resume = Described("Cancel a worker's drain", Nothing, WorkerAnswer, 202)
    remove = Described("Remove a worker without jobs", status=204)
    return (
        reading(f"{PREFIX}/boxes", fleet.boxes, "Every Box, and what runs on it", BoxList),
        reading(f"{PREFIX}/workers", fleet.workers, "All workers", WorkerList),
        reading(
            f"{PREFIX}/nodes",
            nodes.list,
            "All nodes: which are alive, which lead",
            NodeList,
            Right.MONITOR,
        ),
        Route("POST", f"{_WORKER}/drain", draining.drain, drain, Right.FLEET),
        Route("POST", f"{_WORKER}/resume", draining.resume, resume, Right.FLEET),
        Route("DELETE", _WORKER, draining.remove, remove, Right.FLEET),
        deleting(_NODE, nodes.forget, "Remove a retired node", Right.INSTANCE),
    )


def ghost_routes(ghosts: GhostRoutes) -> Sequence[Route]:
    path = f"{PREFIX}/ghosts"
    one = f"{path}/{{ghost:[^/]+}}"
    listed = "Attempts that workers hold, and that are not theirs for the scheduler"
    restore = Described("Give a ghost's job back to its worker", Nothing, GhostAnswer, 202)
    kill = Described("End a ghost", Nothing, GhostAnswer, 202)
    return (
        reading(path, ghosts.list, listed, GhostList),
        Route("POST", f"{one}/restore", ghosts.restore, restore, Right.OPERATE),
        Route("POST", f"{one}/kill", ghosts.kill, kill, Right.OPERATE),
    )


def set_aside_routes(commands: SetAsideRoutes) -> Sequence[Route]:
    path = f"{PREFIX}/set-aside"
    command = f"{path}/{{command:[^/]+}}"
    listed = "Commands that the scheduler could not execute, latest first"
    drop = Described("Remove a command that was set aside from the list", status=204)
    return (
        reading(path, commands.list, listed, SetAsideList),
        reading(command, commands.one, "A command that was set aside", SetAsideAnswer),
        Route("DELETE", command, commands.drop, drop, Right.OPERATE),
    )


def notification_routes(notifications: NotificationRoutes) -> Sequence[Route]:
    path = f"{PREFIX}/notifications"
    one = f"{path}/{{notification:[^/]+}}"
    listed = Described("Notifications, newest first", gives=NotificationList, query=_NOTIFICATIONS)
    resend = Described("Send a notification again", Nothing, NotificationAnswer, 202)
    return (
        Route("GET", path, notifications.list, listed, Right.READ),
        reading(one, notifications.one, "A notification", NotificationAnswer),
        Route("POST", f"{one}/resend", notifications.resend, resend, Right.OPERATE),
    )


def webhook_routes(webhooks: WebhookRoutes, deliveries: DeliveryRoutes) -> Sequence[Route]:
    path = "/webhooks/{provider:[^/]+}/{project:[^/]+}"
    of_another = "/webhooks/{provider:[^/]+}/{organization:[^/]+}/{project:[^/]+}"
    take = Described(
        "A code host's delivery, signed with the project's webhook_secret",
        gives=DeliveryAnswer,
        refuses=(400, 401, 408, 413),
    )
    listed = Described("Deliveries, newest first", gives=DeliveryList, query=_DELIVERIES)
    return (
        Route("POST", path, webhooks.receive, take, Open.EVERYONE),
        Route("POST", of_another, webhooks.receive, take, Open.EVERYONE),
        Route("GET", f"{PREFIX}/deliveries", deliveries.list, listed, Right.READ),
    )


def secret_routes(secrets: SecretRoutes) -> Sequence[Route]:
    path = f"{_PROJECT}/secrets"
    one = f"{path}/{{secret:[^/]+}}"
    put = Described("Create or replace a secret of a project", AskSecret, PutSecretAnswer, 201, 200)
    rotate = Described("Seal the next values with the first key", AskRotate, RotateAnswer)
    return (
        Route("PUT", one, secrets.put, put, Right.CONFIGURE),
        reading(
            path,
            secrets.list,
            "A project's secrets, without their values",
            SecretList,
            Right.CONFIGURE,
        ),
        deleting(one, secrets.delete, "Delete a secret", Right.CONFIGURE),
        Route("POST", f"{PREFIX}/secrets/rotate", secrets.rotate, rotate, Right.INSTANCE),
    )


def organization_routes(organizations: OrganizationRoutes) -> Sequence[Route]:
    path = f"{PREFIX}/organizations/{{organization:[^/]+}}"
    asked, shown = OrganizationSettings, OrganizationAnswer
    put = Described("Create an organization or replace its settings", asked, shown, 201, 200)
    return (
        Route("PUT", path, organizations.put, put, Right.INSTANCE),
        reading(path, organizations.one, "An organization's settings", shown),
        reading(f"{PREFIX}/organizations", organizations.list, "Organizations", OrganizationList),
        deleting(path, organizations.delete, "Delete an organization", Right.INSTANCE),
    )


def token_routes(tokens: TokenRoutes) -> Sequence[Route]:
    make = Described("Create a token; only this answer has its text", AskToken, NewTokenAnswer, 201)
    return (
        reading(f"{PREFIX}/me", me, "What the caller's token may do", MeAnswer),
        Route("POST", f"{PREFIX}/tokens", tokens.make, make, Right.ADMINISTER),
        reading(
            f"{PREFIX}/tokens",
            tokens.list,
            "All tokens, without their texts",
            TokenList,
            Right.ADMINISTER,
        ),
        deleting(_TOKEN, tokens.revoke, "Revoke a token", Right.ADMINISTER),
    )


def other_routes(
    activity: ActivityRoutes, events: EventRoutes, operations: OperationRoutes
) -> Sequence[Route]:
    live = Described("Whether the node is alive", gives=Health)
    ready = Described("Whether requests should be sent here", gives=Health)
    every = Described("Every change", content_type="text/event-stream", query=(_AFTER,))
    figures = Described("Metrics for Prometheus", content_type="text/plain")
    return (
        reading(f"{PREFIX}/activity", activity.show, "All unfinished workloads", ActivityAnswer),
        Route("GET", f"{PREFIX}/events", events.stream, every, Right.READ, lasting=True),
        reading(f"{PREFIX}/openapi.json", operations.openapi, "This description", dict[str, Any]),
        reading(SCHEMA, operations.job_file_schema, "The JSON Schema of job files", dict[str, Any]),
        Route("GET", "/healthz", operations.healthz, live, Open.EVERYONE, head=True),
        Route("GET", "/readyz", operations.readyz, ready, Open.EVERYONE, head=True),
        Route("GET", "/metrics", operations.metrics, figures, Open.THIS_MACHINE),
    )


def reading(
    path: str, handler: Handler, summary: str, gives: type, asks: Asked = Right.READ
) -> Route:
    return Route("GET", path, handler, Described(summary, gives=gives), asks)


def asking(path: str, handler: Handler, summary: str, takes: type, asks: Asked) -> Route:
    """Return the route of a call that creates a workload."""
    what = Described(summary, takes, WorkloadAnswer, 201, keyed=True)
    return Route("POST", path, handler, what, asks)


def deleting(path: str, handler: Handler, summary: str, asks: Asked) -> Route:
    return Route("DELETE", path, handler, Described(summary, status=204), asks)


def table(
    node: Node,
    known: KnownProjects,
    tokens: KnownTokens,
    operations: OperationRoutes,
    delivered: Counter[tuple[str, str]],
) -> list[Route]:
    """All routes but the page's own. ``delivered``: counts deliveries."""
    seen = RecentAnswers()
    asks = SubmissionRoutes(node, known, seen)
    changes = ProjectChanges(node, known)
    workloads, priorities = WorkloadRoutes(node, seen), PriorityRoutes(node, seen)
    return [
        *project_routes(ProjectRoutes(node, known, changes), ServerRoutes(node, known), asks),
        *history_routes(ProjectHistoryRoutes(node, changes)),
        *workload_routes(workloads, asks, priorities, ResolveRoutes(node, seen), LogRoutes(node)),
        *session_routes(SshTunnelRoutes(node)),
        *artifact_routes(ArtifactRoutes(node)),
        *pause_routes(PauseRoutes(node, known)),
        *schedule_routes(ScheduleRoutes(node, known)),
        *fleet_routes(FleetRoutes(node), DrainRoutes(node), NodeRoutes(node)),
        *ghost_routes(GhostRoutes(node)),
        *worker_routes(WorkerRoutes(node), WorkerPollRoutes(node)),
        *set_aside_routes(SetAsideRoutes(node)),
        *notification_routes(NotificationRoutes(node)),
        *webhook_routes(WebhookRoutes(node, known, delivered), DeliveryRoutes(node)),
        *secret_routes(SecretRoutes(node)),
        *token_routes(TokenRoutes(node, tokens)),
        *organization_routes(OrganizationRoutes(node)),
        *other_routes(ActivityRoutes(node), EventRoutes(node), operations),
    ]

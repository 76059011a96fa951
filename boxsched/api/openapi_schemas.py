"""What openapi.json contains besides the types: the format of ids in paths, fields that exclude
each other, and which answer contains the id that another call takes.
"""

from collections.abc import Mapping
from typing import Any

from boxsched.api.http.forms import CONTROLS_FREE
from boxsched.api.messages.requests import (
    AskBuild,
    AskPause,
    AskSession,
    AskToken,
    ServerSettings,
)
from boxsched.model import MAX_NAME_CHARACTERS

Schema = Mapping[str, Any]

NAME: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME_CHARACTERS,
    "pattern": CONTROLS_FREE,
}
TAG: Schema = {"type": "string", "pattern": '^(\\*|"[0-9]{1,18}\\.[0-9]{1,18}")$'}
KEY: Schema = {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}

# Schemas of ids and names in paths. A node or a worker can also be named by its name.
PATHS: Mapping[str, Schema] = {
    "project": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"},
    "organization": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"},
    "workload": {"type": "string", "pattern": "^w[1-9][0-9]{0,14}$"},
    "job": {"type": "string", "pattern": "^w[1-9][0-9]{0,14}-[1-9][0-9]{0,3}$"},
    "secret": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,254}$"},
    "pause": NAME,
    "version": {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"},
    "command": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "notification": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def _null(field: str) -> Schema:
    return {"properties": {field: {"type": "null"}}}


def _false(field: str) -> Schema:
    return {"properties": {field: {"const": False}}}


def _given(field: str) -> Schema:
    return {"required": [field], "properties": {field: {"type": "string"}}}


# Rules about several fields, which a type cannot express.
TOGETHER: Mapping[type, Schema] = {
    AskBuild: {
        "oneOf": [
            {"allOf": [_given("branch"), _null("tag")]},
            {"allOf": [_given("tag"), _null("branch")]},
        ]
    },
    AskPause: {
        "anyOf": [
            {"allOf": [_null("branch"), _null("server")]},
            {"allOf": [_given("project"), _null("branch"), _given("server")]},
            {"allOf": [_given("project"), _given("branch"), _null("server"), _false("automatic")]},
        ]
    },
    AskSession: {"anyOf": [_null("branch"), _null("build")]},
    AskToken: {
        "anyOf": [{"properties": {"role": {"const": "worker"}}}, _null("max_workers")],
    },
    ServerSettings: {
        "anyOf": [
            {"properties": {"strategy": {"const": "manual"}}},
            {"required": ["jobs"], "properties": {"jobs": {"minItems": 1}}},
        ]
    },
}

# The field of an answer, by the name of the parameter in the path of other calls.
_WORKLOAD_IDS: Mapping[str, str] = {
    "workload": "$response.body#/id",
    "job": "$response.body#/jobs/0/id",
    "project": "$response.body#/project",
}
_PROJECT_IDS: Mapping[str, str] = {"project": "$response.body#/name"}
GIVES: Mapping[str, Mapping[str, str]] = {
    "WorkloadAnswer": _WORKLOAD_IDS,
    "ProjectSettings": _PROJECT_IDS,
    "NewTokenAnswer": {"id": "$response.body#/id"},
    "WorkloadList": {"workload": "$response.body#/workloads/0/id"},
    "NodeList": {"node": "$response.body#/nodes/0/name"},
    "WorkerList": {"worker": "$response.body#/workers/0/id"},
    "WholeVersion": {"version": "$response.body#/version"},
    "NotificationList": {"notification": "$response.body#/notifications/0/id"},
    "SetAsideList": {"command": "$response.body#/commands/0/id"},
}

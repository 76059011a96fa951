"""openapi.json, from the table of routes and the very types that validate and answer."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import msgspec

import boxsched
from boxsched.api.guard import Policy
from boxsched.api.replies import ErrorAnswer
from boxsched.api.schema import Nothing

PREFIX = "/api/v1"
_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_REF = "#/components/schemas/{name}"
_REFUSALS: Mapping[int, str] = {
    400: "malformed",
    401: "no token, or one that does not hold",
    403: "not with this token, or not from this page",
    404: "an unknown id or name",
    408: "the body did not come in time",
    409: "the state of things does not allow it",
    413: "too large",
    422: "it does not make sense; `field` says where",
    503: "the database is away: try again",
}
_ON_READING = (401, 404, 422, 503)
_ON_CHANGING = (400, 401, 403, 404, 408, 409, 413, 422, 503)


@attrs.frozen
class Query:
    name: str
    meaning: str
    schema: Mapping[str, Any] = {"type": "string"}


@attrs.frozen
class Described:
    """What openapi.json says of a route beside its path: in, out, and what for."""

    summary: str
    takes: type | None = None
    gives: type | None = None
    status: int = 200
    also: int | None = None  # a second good status, with the same answer
    content_type: str = "application/json"
    query: tuple[Query, ...] = ()
    keyed: bool = False  # takes an Idempotency-Key


def document(routes: Iterable[tuple[str, str, Policy, Described]]) -> bytes:
    """The whole description, as JSON; routes are (method, path, policy, what)."""
    routes = list(routes)
    types = {t for *_, what in routes for t in (what.takes, what.gives) if t is not None}
    ordered = [ErrorAnswer, *sorted(types, key=lambda one: one.__name__)]
    shown, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    schemas = dict(zip(ordered, shown, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for method, path, policy, what in routes:
        operation = _operation(method, path, what, schemas)
        if policy is Policy.PUBLIC:
            operation["security"] = []
        paths.setdefault(plain(path), {})[method.lower()] = operation
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "boxsched", "version": boxsched.__version__},
            "paths": paths,
            "security": [{"token": []}],
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def plain(path: str) -> str:
    """A route's path without the patterns of its parameters."""
    return _PARAMETER.sub(r"{\1}", path)


def _operation(
    method: str, path: str, what: Described, schemas: Mapping[type, Mapping[str, Any]]
) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "done"}
    if what.gives is not None:
        good["content"] = {what.content_type: {"schema": schemas[what.gives]}}
    elif what.content_type != "application/json":
        good["content"] = {what.content_type: {"schema": {"type": "string"}}}
    answers = {str(status): good for status in (what.status, what.also) if status}
    refusal = {"application/json": {"schema": schemas[ErrorAnswer]}}
    for status in _ON_READING if method == "GET" else _ON_CHANGING:
        answers[str(status)] = {"description": _REFUSALS[status], "content": refusal}
    operation: dict[str, Any] = {
        "summary": what.summary,
        "operationId": _operation_id(method, path),
        "responses": answers,
    }
    parameters = _parameters(path, what)
    if parameters:
        operation["parameters"] = parameters
    if what.takes is not None:
        operation["requestBody"] = {
            "required": what.takes is not Nothing,
            "content": {"application/json": {"schema": schemas[what.takes]}},
        }
    return operation


def _parameters(path: str, what: Described) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in _PARAMETER.findall(path)
    ]
    for query in what.query:
        found.append(
            {
                "name": query.name,
                "in": "query",
                "description": query.meaning,
                "schema": query.schema,
            }
        )
    if what.keyed:
        found.append({"name": "Idempotency-Key", "in": "header", "schema": text})
    return found


def _operation_id(method: str, path: str) -> str:
    words = _PARAMETER.sub(r"\1", path.removeprefix(PREFIX)).strip("/")
    return "_".join([method.lower(), *re.split(r"[^a-z0-9]+", words)]).rstrip("_")

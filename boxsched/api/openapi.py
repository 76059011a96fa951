"""openapi.json, made from the table of routes and the types of requests and answers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import msgspec

import boxsched
from boxsched.api.auth.rights import RIGHTS, Asked, Open, Right
from boxsched.api.http.replies import ErrorAnswer
from boxsched.api.messages.requests import AskDrain, Nothing
from boxsched.api.openapi_schemas import GIVES, KEY, NAME, PATHS, TAG, TOGETHER, Schema

PREFIX = "/api/v1"
_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_REF = "#/components/schemas/{name}"
_REFUSALS: Mapping[int, str] = {
    400: "malformed",
    401: "no token, or an invalid one",
    403: "the token does not have the right, or it is a session, and not from this page",
    404: "an unknown id or name",
    405: "this path does not allow this method",
    408: "the body did not arrive in time",
    409: "the current state does not allow it",
    412: "it does not have the version that If-Match names",
    413: "too large",
    417: "only `Expect: 100-continue` is supported",
    421: "this connection belongs to another node: send the request again",
    422: "a value is invalid; `field` names it",
    429: "too many requests: try again after Retry-After seconds",
    503: "the database is away: try again",
}
_ON_ALL = (405, 417, 422, 429, 503)
_ON_PRIVATE = (401, 403)
_ON_CHANGING = (404, 409)
_WITH_BODY = (400, 408, 413)


@attrs.frozen
class Query:
    name: str
    meaning: str
    schema: Mapping[str, Any] = {"type": "string"}
    required: bool = False


@attrs.frozen
class Described:
    """What openapi.json contains about a route besides its path: body, answer and summary."""

    summary: str
    takes: type | None = None
    gives: type | None = None
    status: int = 200
    also: int | None = None  # another success status, with the same answer
    content_type: str = "application/json"
    query: tuple[Query, ...] = ()
    keyed: bool = False  # accepts an Idempotency-Key
    matched: tuple[str, ...] = ()  # headers that name the expected version
    refuses: tuple[int, ...] = ()  # statuses of further refusals


Routed = tuple[str, str, Asked, Described]


def document(routes: Iterable[Routed]) -> bytes:
    """Return the whole description as JSON. Routes are (method, path, asks, what)."""
    routes = list(routes)
    types = {t for *_, what in routes for t in (what.takes, what.gives) if t is not None}
    ordered = [ErrorAnswer, *sorted(types, key=lambda one: one.__name__)]
    shown, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    schemas = dict(zip(ordered, shown, strict=True))
    for kind, together in TOGETHER.items():
        components[kind.__name__].update(together)
    paths: dict[str, dict[str, Any]] = {}
    for method, path, asks, what in routes:
        operation = _operation(method, path, asks, what, schemas)
        paths.setdefault(plain(path), {})[method.lower()] = operation
    _link(paths, routes)
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
    """Return a route's path without the patterns of its parameters."""
    return _PARAMETER.sub(r"{\1}", path)


def _operation(
    method: str, path: str, asks: Asked, what: Described, schemas: Mapping[type, Schema]
) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "done"}
    if what.gives is not None:
        good["content"] = {what.content_type: {"schema": schemas[what.gives]}}
    elif what.content_type != "application/json":
        good["content"] = {what.content_type: {"schema": {"type": "string"}}}
    answers = {str(status): good for status in (what.status, what.also) if status}
    refusal = {"application/json": {"schema": schemas[ErrorAnswer]}}
    for status in _refusals(method, path, asks, what):
        answers[str(status)] = {"description": _REFUSALS[status], "content": refusal}
    operation: dict[str, Any] = {
        "summary": what.summary,
        "operationId": _operation_id(method, path),
        "responses": answers,
    }
    if asks is Open.EVERYONE:
        operation["security"] = []
    else:
        operation |= _needs(asks)
    parameters = _parameters(path, what)
    if parameters:
        operation["parameters"] = parameters
    if what.takes is not None:
        operation["requestBody"] = {
            "required": what.takes not in (Nothing, AskDrain),
            "content": {"application/json": {"schema": schemas[what.takes]}},
        }
    return operation


def _needs(asks: Asked) -> dict[str, Any]:
    """Say which right the operation needs, and which roles have it."""
    right = asks if isinstance(asks, Right) else Right.MONITOR
    roles = [role.value for role, rights in RIGHTS.items() if right in rights]
    text = f"Needs the right `{right}`: a token of role {' or '.join(roles)}."
    needs: dict[str, Any] = {"x-right": right.value, "x-roles": roles, "description": text}
    if asks is Open.THIS_MACHINE:
        needs["security"] = [{}, {"token": []}]
        needs["description"] = f"{text} Requests from the same machine need no token."
    return needs


def _refusals(method: str, path: str, asks: Asked, what: Described) -> list[int]:
    found = {*_ON_ALL, *what.refuses}
    if asks is not Open.EVERYONE:
        found.update(_ON_PRIVATE)
    if method != "GET":
        found.update(_ON_CHANGING)
    if what.takes is not None:
        found.update(_WITH_BODY)
    if what.matched:
        found.add(412)
    if what.status == 101:
        found.add(400)  # the request does not ask for a WebSocket
    if _PARAMETER.search(path):
        found.add(404)
    return sorted(found)


def _parameters(path: str, what: Described) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": PATHS.get(name, NAME)}
        for name in _PARAMETER.findall(path)
    ]
    for query in what.query:
        found.append(
            {
                "name": query.name,
                "in": "query",
                "description": query.meaning,
                "schema": query.schema,
                **({"required": True} if query.required else {}),
            }
        )
    if what.keyed:
        found.append({"name": "Idempotency-Key", "in": "header", "schema": KEY})
    found += [{"name": name, "in": "header", "schema": TAG} for name in what.matched]
    return found


def _link(paths: Mapping[str, dict[str, Any]], routes: Iterable[Routed]) -> None:
    """Link each answer that contains an id to the calls that take this id."""
    takers: list[tuple[str, list[str]]] = [
        (_operation_id(method, path), _PARAMETER.findall(path))
        for method, path, _, what in routes
        if what.status != 101
    ]
    for method, path, _, what in routes:
        gives = GIVES.get(what.gives.__name__, {}) if what.gives is not None else {}
        links = {
            taker: {"operationId": taker, "parameters": {name: gives[name] for name in names}}
            for taker, names in takers
            if names and all(name in gives for name in names)
        }
        if links:
            responses = paths[plain(path)][method.lower()]["responses"]
            for status in {what.status, what.also} - {None}:
                responses[str(status)] = {**responses[str(status)], "links": links}


def _operation_id(method: str, path: str) -> str:
    words = _PARAMETER.sub(r"\1", path.removeprefix(PREFIX)).strip("/")
    return "_".join([method.lower(), *re.split(r"[^a-z0-9]+", words)]).rstrip("_")

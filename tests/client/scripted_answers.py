"""Answers of a scripted server, and the values in them."""

import json
import socket

from aiohttp import web

WORKLOAD = {
    "id": "w1", "project": "web", "number": 1, "kind": "build", "branch": "main", "tag": None,
    "server": None, "commit": None, "message": None, "author": None, "state": "registered",
    "result": None, "priority": 50, "created_at": "2026-01-02T03:04:05.000006Z",
    "queued_at": None, "started_at": None, "finished_at": None, "jobs": [],
    "a_field_of_a_later_version": [1, 2],
}  # fmt: skip


FINISHED = {
    **WORKLOAD,
    "state": "finished",
    "result": "passed",
    "finished_at": "2026-01-02T03:04:06Z",
}


def says(value, status=200, headers=None):
    async def answer(request):
        return web.json_response(value, status=status, headers=headers)

    return answer


def refuses(status, code, message="no", **more):
    return says({"error": {"code": code, "message": message, **more}}, status)


async def breaks(request):
    request.transport.abort()
    return web.Response()


def streams(*chunks, then_break=False):
    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then_break:
            request.transport.abort()
        return response

    return answer


def log_part(*chunks, size, state="finished", attempt=1, latest=1):
    """An answer to a reader of a log, with the headers that say which part it is."""

    async def answer(request):
        response = web.StreamResponse()
        response.headers["Boxsched-Job-State"] = state
        response.headers["Boxsched-Attempt"] = str(attempt)
        response.headers["Boxsched-Latest-Attempt"] = str(latest)
        response.headers["Boxsched-Log-Size"] = str(size)
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        return response

    return answer


def event(id_, type_, **data):
    return f"id: {id_}\nevent: {type_}\ndata: {json.dumps(data)}\n\n".encode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

"""Whatever a worker sends, its connection ends with a reason and nothing of it is used."""

import contextlib
import json

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxsched.gateway.received import ProtocolViolation, read
from boxsched.protocol import wire
from tests.contract.store_data import NOW
from tests.gateway.harness import GatewayHarness, passed, started

DEEP = "[" * 100_000 + "]" * 100_000
HUGE = "9" * 4_000


def said(*report: object) -> str:
    return json.dumps({"type": "said", "number": 1, "reports": [report]})


def chunk(job: object = 1, attempt: object = 1, offset: object = 0, data: object = "YQ==") -> str:
    return json.dumps({"type": "logged", "number": 1, "chunks": [[job, attempt, offset, data]]})


def found(commit: str, job: int = 1) -> str:
    message = {"type": "found", "number": 1, "job": job, "lease_token": 1, "commit": commit}
    return json.dumps(message)


FINISHED = ("finished", 1, 1, 1.0)
HOSTILE = {
    "nothing": ("", "malformed"),
    "no JSON": ("hello", "malformed"),
    "no object": ("[]", "malformed"),
    "no type": ("{}", "malformed"),
    "another type": ('{"type": "level", "tasks": []}', "malformed"),
    "deep": ('{"type": "beat", "number": 1, "x": ' + DEEP + "}", "malformed"),
    "only deep": (DEEP, "malformed"),
    "a huge number": ('{"type": "beat", "number": ' + HUGE + "}", "values"),
    "a number that is too huge": ('{"type": "beat", "number": ' + 2 * HUGE + "}", "malformed"),
    "a number below zero": ('{"type": "beat", "number": -1}', "values"),
    "a fraction": ('{"type": "beat", "number": 1.5}', "malformed"),
    "a second hello": (
        '{"type": "hello", "version": 1, "identity": "i", "name": "n", "box_types": ["d"],'
        ' "fingerprint": "", "boot": ""}',
        "order",
    ),
    "NaN": ('{"type": "said", "number": 1, "reports": [["started", 1, 1, NaN]]}', "malformed"),
    "infinity": ('{"type": "said", "number": 1, "reports": [["started", 1, 1, 1e999]]}',
                 "malformed"),
    "far in the future": (said("started", 1, 1, 1e12), "values"),
    "long ago": (said("started", 1, 1, -1.0), "values"),
    "a huge job": (said("started", 10**30, 1, 1.0), "values"),
    "a huge lease token": (said("started", 1, 1 << 63, 1.0), "values"),
    "a result that is no worker's": (said(*FINISHED, "canceled", None, None), "values"),
    "a result that is none": (said(*FINISHED, "great", None, None), "malformed"),
    "a huge exit status": (said(*FINISHED, "failed", 1 << 40, None), "values"),
    "NUL in a reason": (said(*FINISHED, "failed", 1, "a\0b"), "values"),
    "half a surrogate": (
        '{"type":"said","number":1,"reports":[["finished",1,1,1.0,"failed",1,"\\ud800 x"]]}',
        "malformed",
    ),
    "no commit": (said(*FINISHED, "passed", 0, None, "--upload-pack=x"), "values"),
    "a commit in capitals": (said(*FINISHED, "passed", 0, None, "ABCDEF0123"), "values"),
    "too many reports": (
        '{"type":"said","number":1,"reports":['
        + ",".join(['["started",1,1,1.0]'] * 20_001) + "]}",
        "malformed",
    ),
    "a commit that is not whole": (found("0123abc"), "values"),
    "a commit that is none": (found("g" * 40), "values"),
    "a commit of a huge job": (found("a" * 40, job=1 << 63), "values"),
    "a run of less than nothing": (said(*FINISHED, "passed", 0, None, None, False, -1.0), "values"),
    "an endless run": (said(*FINISHED, "passed", 0, None, None, False, 1e300), "values"),
    "output at a huge offset": (chunk(offset=1 << 50), "values"),
    "output before its begin": (chunk(offset=-1), "values"),
    "output of a huge attempt": (chunk(attempt=1 << 70), "values"),
    "no output": (chunk(data=""), "values"),
    "output that is no base64": (chunk(data="####"), "malformed"),
    "too much output": (chunk(data="YWFh" * 30_000), "values"),
    "too many chunks": (
        json.dumps({"type": "logged", "number": 1, "chunks": [[1, 1, 0, "YQ=="]] * 65}),
        "malformed",
    ),
    "too large": (" " * (wire.MAX_WORKER_MESSAGE_BYTES + 1), "too_large"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_message_outside_of_the_protocol_ends_the_connection(
    harness: GatewayHarness, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    text, reason = HOSTILE[what]
    worker = await harness.worker()
    asked = list(harness.asked)
    await worker.socket.send_str(text)
    code = await worker.closed()
    assert code == (1009 if reason == "too_large" else 1008)
    await harness.disconnected(worker)
    assert harness.gateway.figures.ended == {reason: 1}
    assert harness.asked == asked
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_message_outside_of_the_protocol_in_place_of_a_hello_ends_the_connection(
    harness: GatewayHarness, what: str
) -> None:
    if what == "a second hello":
        pytest.skip("it is a first one")
    worker = await harness.dial()
    await worker.socket.send_str(HOSTILE[what][0])
    assert await worker.closed() in (1008, 1009)
    assert harness.asked == []
    assert sum(harness.gateway.figures.ended.values()) == 1


async def test_frames_that_are_not_text_end_the_connection(harness: GatewayHarness) -> None:
    worker = await harness.worker()
    await worker.socket.send_bytes(b'{"type": "beat", "number": 1}')
    assert await worker.closed() == 1008
    other = await harness.worker()
    await other.socket.send_frame(b'{"type": "beat\xff"', aiohttp.WSMsgType.TEXT)
    assert await other.closed() == 1007
    third = await harness.worker()
    third.socket._writer.transport.write(b"\xff\xff\xff\xff no frame at all")  # type: ignore[union-attr]
    assert await third.closed() in (1002, 1006)


async def test_a_request_that_asks_for_no_websocket_is_refused(harness: GatewayHarness) -> None:
    url = f"http://127.0.0.1:{harness.port}{wire.PATH}"
    async with harness.session.get(url) as response:
        assert response.status == 400


async def test_a_long_reason_is_cut_and_not_refused(harness: GatewayHarness) -> None:
    worker = await harness.worker()
    await harness.take_boxes()
    await harness.start(0)
    (task,) = (await worker.level()).tasks
    await worker.said(started(task), passed(task, NOW, reason="because " * 100))
    finished = harness.reports()[1]
    assert finished.reason == ("because " * 100)[:500]  # type: ignore[union-attr]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
messages = st.fixed_dictionaries(
    {"type": st.sampled_from(["beat", "said", "logged", "hello"]), "number": json_values},
    optional={
        "reports": st.lists(st.tuples(st.sampled_from(["started", "finished"]), *[json_values] * 6))
        | json_values,
        "chunks": st.lists(st.tuples(*[json_values] * 4)) | json_values,
    },
)


@given(st.text() | messages.map(json.dumps))
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_text_is_a_message_or_malformed(text: str) -> None:
    with contextlib.suppress(ProtocolViolation):
        read(text)

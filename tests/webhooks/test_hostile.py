"""Any input gives a delivery or one of two errors, quickly."""

import copy
import json
import random
import time
import tracemalloc
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from boxsched.errors import Invalid, Malformed
from boxsched.model import MAX_MESSAGE_CHARACTERS, MAX_NAME_CHARACTERS
from boxsched.webhooks.events import Ignored, ParsedDelivery
from boxsched.webhooks.outcomes import MAX_EVENTS
from boxsched.webhooks.reading import FORM, MAX_COMMAS, MAX_ESCAPES, PROVIDERS, read
from boxsched.webhooks.repositories import names_repository
from tests.webhooks import sample_payloads as samples
from tests.webhooks.test_payloads import PAYLOADS, manifest

LARGEST = 25 << 20
EVENTS = {
    "github": ("push", "pull_request", "ping"),
    "gitlab": ("Push Hook",),
    "bitbucket": ("repo:push", "pullrequest:created", "pullrequest:rejected"),
    "bitbucket-server": ("repo:refs_changed", "pr:opened", "pr:merged"),
    "gitea": ("push", "pull_request", "delete"),
    "forgejo": ("push", "pull_request", "delete"),
    "gogs": ("push", "pull_request", "delete", "create"),
    "generic": ("",),
}
HEADER = {**samples.EVENT_HEADERS, "generic": "X-Any"}
SMALL = [
    ("github", "push", samples.github_push()),
    ("github", "pull_request", samples.github_request()),
    ("gitlab", "", samples.gitlab_push()),
    ("gitlab", "", samples.gitlab_request()),
    (
        "bitbucket",
        "repo:push",
        samples.cloud_push({"new": samples.cloud_ref("main")}),
    ),
    ("bitbucket", "pullrequest:created", samples.cloud_request()),
    (
        "bitbucket-server",
        "repo:refs_changed",
        samples.server_push(("refs/heads/a", samples.A)),
    ),
    ("bitbucket-server", "pr:opened", samples.server_request()),
    ("gitea", "push", samples.gitea_push()),
    ("forgejo", "pull_request", samples.gitea_request()),
    ("gogs", "pull_request", samples.gogs_request()),
    ("generic", "", {"branch": "main", "commit": samples.A, "message": "x", "author": "a"}),
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(
        ["refs/heads/main", "refs/tags/v1", samples.A, samples.NULL, "opened", "\0", "-x"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip
providers = st.sampled_from(sorted(PROVIDERS))


def outcome(provider, headers, body):
    """Read the delivery; check that its result can be stored and shown."""
    try:
        delivery = read(provider, headers, body)
    except (Malformed, Invalid) as raised:
        error = raised
    else:
        check(delivery)
        return delivery
    assert error.status == 400 or provider == "generic"
    assert printable(error.message, 1_000)
    assert error.field is None or len(error.field) <= 200
    return error


def check(delivery):
    assert isinstance(delivery, ParsedDelivery)
    assert 1 <= len(delivery.events) <= MAX_EVENTS + 1
    for text in (delivery.event, delivery.id, delivery.default_branch):
        assert text is None or printable(text, MAX_NAME_CHARACTERS)
    for event in delivery.events:
        if isinstance(event, Ignored):
            assert printable(event.reason, 400)
            continue
        for name in ("branch", "tag", "target_branch", "author"):
            text = getattr(event, name, None)
            assert text is None or printable(text, MAX_NAME_CHARACTERS)
        message = getattr(event, "message", None) or ""
        assert len(message) <= MAX_MESSAGE_CHARACTERS
        assert all(
            printable(line.replace("\t", ""), MAX_MESSAGE_CHARACTERS)
            for line in message.split("\n")
        )
        commit = getattr(event, "commit", None)
        assert commit is None or 7 <= len(commit) <= 64
    for url in ("https://github.com/a/b", "git@host:a/b", "/a/b", "x", "", "https://[/"):
        assert names_repository(delivery, url) in (True, False)


def printable(text, limit):
    text.encode()
    return len(text) <= limit and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)


# --- Anything -------------------------------------------------------------------------------


@given(providers, st.data(), values)
def test_any_json_is_a_delivery_or_an_error(provider, data, value):
    event = data.draw(st.sampled_from(EVENTS[provider]))
    outcome(provider, {HEADER[provider]: event}, json.dumps(value).encode())


@given(providers, st.lists(st.tuples(st.sampled_from(sorted({*HEADER.values(), "Content-Type"})),
                                     st.text(st.characters(codec=None)) | st.just(FORM))),
       st.binary())  # fmt: skip
@example("github", [("X-GitHub-Event", "\udcff")], b"{}")
@example("github", [("X-GitHub-Event", "push"), ("X-GitHub-Event", "ping")], b"{}")
@example("github", [("Content-Type", FORM)], b"payload={}")
def test_any_bytes_under_any_headers_are_a_delivery_or_an_error(provider, headers, body):
    outcome(provider, CIMultiDict(headers), body)


def places(value, path=()):
    """Return the path of each value inside."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(payload, path, value):
    """Return the payload with another value at the path."""
    if not path:
        return value
    result = copy.deepcopy(payload)
    inside = result
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return result


@given(st.sampled_from(SMALL), st.data(), values)
def test_any_change_of_a_small_payload_is_a_delivery_or_an_error(small, data, value):
    provider, event, payload = small
    path = data.draw(st.sampled_from(list(places(payload))))
    body = json.dumps(changed(payload, path, value)).encode()
    outcome(provider, {HEADER[provider]: event}, body)


ODD = [None, True, 0, -1, 2**63, 1e308, "", "\0", "x" * 300, [], [None], {}, {"a": 1}]


@pytest.mark.parametrize(("provider", "event", "payload"), SMALL)
def test_each_field_of_a_small_payload_may_be_anything_or_absent(provider, event, payload):
    headers = {HEADER[provider]: event}
    for path in places(payload):
        for odd in ODD:
            outcome(provider, headers, json.dumps(changed(payload, path, odd)).encode())


@pytest.mark.skipif(not manifest(), reason="no ../shared")
@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_any_mutation_of_a_real_payload_is_a_delivery_or_an_error(seed):
    chance = random.Random(seed)
    entry = chance.choice(manifest())
    body = bytearray((PAYLOADS / entry["file"]).read_bytes())
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(body))
        kind = chance.randrange(4)
        if kind == 0:
            body[at] = chance.randrange(256)
        elif kind == 1:
            del body[at : at + chance.randint(1, 200)]
        elif kind == 2:
            body[at:at] = body[at : at + chance.randint(1, 200)]
        else:
            del body[at:]
        if not body:
            break
    outcome(entry["provider"], entry["headers"], bytes(body))


# --- Very large payloads ------------------------------------------------------------------


DEEP = 100_000
BODIES = {
    "nothing": b"",
    "NUL": b"\0",
    "open lists": b"[" * DEEP,
    "lists": b"[" * DEEP + b"]" * DEEP,
    "open objects": b'{"a":' * DEEP,
    "objects in a push": b'{"ref":"refs/heads/a","after":"%s","x":' % (b"a" * 40)
    + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "a list in a push": b'{"ref":"refs/heads/a","after":"%s","x":' % (b"a" * 40)
    + b"[" * DEEP + b"]" * DEEP + b"}",
    "NaN": b'{"ref": NaN}',
    "infinity": b'{"x": -Infinity}',
    "half of a surrogate pair": b'{"ref": "\\ud800"}',
    "half of a pair in another field": b'{"x": "\\udfff"}',
    "UTF-16": '{"ref": "x"}'.encode("utf-16"),
    "not UTF-8": b'{"x": "\xff"}',
    "surrogate in UTF-8": b'{"x": "\xed\xa0\x80"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "more behind": b"{} {}",
    "a key twice": b'{"x": 1, "x": 2}',
    "cut": b'{"ref": "refs/heads/main", "after": "aaa',
    "form": b"payload=%7B%7D",
}  # fmt: skip


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_invalid_json_is_malformed(provider, body):
    with pytest.raises(Malformed):
        read(provider, {HEADER[provider]: EVENTS[provider][0]}, body)


def test_an_integer_of_four_million_digits_is_a_delivery_or_an_error():
    digits = b"9" * 4_000_000
    for body in (
        b'{"ref":"refs/heads/a","after":"%s","x":%s}' % (b"a" * 40, digits),
        b'{"ref":%s}' % digits,
        b'{"action":"opened","number":%s,"pull_request":{"head":{},"base":{}}}' % digits,
    ):
        for event in ("push", "pull_request"):
            outcome("github", {"X-GitHub-Event": event}, body)


def test_a_duplicate_key_is_refused_in_every_delivery_with_effects():
    push = json.dumps(samples.github_push())
    twice = push.replace('"name": "Ann"', '"name": "Ann", "name": "Bob"').encode()
    with pytest.raises(Malformed) as raised:
        read("github", {"X-GitHub-Event": "push"}, twice)
    assert raised.value.field == "name"
    nothing = push.replace("refs/heads/main", "refs/notes/x").replace("}}", ', "name": "B"}}')
    assert isinstance(
        outcome("github", {"X-GitHub-Event": "push"}, nothing.encode()), ParsedDelivery
    )


def filled(start, piece, end=b"}"):
    return start + piece * ((LARGEST - len(start) - len(end)) // len(piece)) + end


PUSH = b'{"ref":"refs/heads/a","after":"%s",' % (b"a" * 40)
HUGE: dict[str, Callable[[], bytes]] = {  # each about 25 MiB
    "one message": lambda: filled(PUSH + b'"head_commit":{"message":"', b"x", b'"}}'),
    "one ref": lambda: filled(b'{"after":"a","ref":"refs/heads/', b"x", b'"}'),
    "line ends": lambda: filled(PUSH + b'"head_commit":{"message":"', b"\\r\\n", b'"}}'),
    "commits": lambda: filled(
        PUSH + b'"commits":[', b'{"id":"%s","message":"m"},' % (b"b" * 40), b"{}]}"
    ),
    "numbers": lambda: filled(PUSH + b'"x":[', b"1,", b"1]}"),
    "empty texts": lambda: filled(PUSH + b'"x":[', b'"",', b'""]}'),
    "empty objects": lambda: filled(PUSH + b'"x":[', b"{},", b"{}]}"),
    "keys": lambda: PUSH + b",".join(b'"%d":1' % i for i in range(MAX_COMMAS)) + b"}",
    "numbers up to the limit": lambda: PUSH + b'"x":[' + b"1," * (MAX_COMMAS - 2) + b"1]}",
    "one number": lambda: filled(PUSH + b'"x":', b"9"),
    "space": lambda: filled(PUSH + b'"x":', b" ", b"1}"),
}


@pytest.mark.parametrize("kind", HUGE)
def test_25_mib_are_read_in_bounded_time(kind):
    body = HUGE[kind]()
    assert len(body) <= LARGEST
    before = time.process_time()
    for provider, event in (("github", "push"), ("gitea", "push"), ("gogs", "push")):
        outcome(provider, {HEADER[provider]: event}, body)
    assert time.process_time() - before < 30  # it takes about 1 s


@pytest.mark.parametrize("kind", ["one message", "line ends", "numbers up to the limit"])
def test_25_mib_are_read_in_bounded_memory(kind):
    body = HUGE[kind]()
    tracemalloc.start()
    outcome("github", {"X-GitHub-Event": "push"}, body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most <= 4 * LARGEST


def test_25_mib_of_a_form_are_read_in_bounded_time():
    payload = PUSH + b'"head_commit":{"message":"' + b"\\n" * (MAX_ESCAPES - 100) + b'"}}'
    body = b"payload=" + quote_plus(payload).encode()
    headers = {"X-GitHub-Event": "push", "Content-Type": FORM}
    before = time.process_time()
    assert isinstance(outcome("github", headers, body), ParsedDelivery)
    for huge in (b"%41", b"a=b&", b"payload=a+"):
        assert isinstance(outcome("github", headers, huge * (LARGEST // len(huge))), Malformed)
    assert time.process_time() - before < 30  # it takes about 1 s

"""Parts of the API that need no service: times, errors of bodies, cached answers, OpenAPI."""

import asyncio
import base64
import itertools
import math
import re

import hypothesis
import msgspec
import pytest
from hypothesis import strategies

from boxsched.api.http import bodies, public_keys, times
from boxsched.api.http.recent import RecentAnswers
from boxsched.api.messages import checks
from boxsched.api.messages.requests import AskBuild, ProjectSettings
from boxsched.api.resources.activity import SharedActivity
from boxsched.api.resources.events import WriteBuffer
from boxsched.engine.news import rfc3339
from boxsched.errors import BoxschedError, Conflict, Invalid, Malformed
from boxsched.store.records import IdempotencyKey

YEAR_9999 = 253_402_300_799.0


@hypothesis.given(strategies.floats(0, YEAR_9999))
@hypothesis.example(1_700_000_000.9999997)
@hypothesis.example(math.nextafter(1_700_000_000.0, 0))
def test_times_are_written_as_in_events(time: float) -> None:
    assert times.rfc3339(time) == rfc3339(time)


# --- Bodies ---------------------------------------------------------------------------------

BUILD = bodies.Form(AskBuild)
SETTINGS = bodies.Form(ProjectSettings)


@hypothesis.given(strategies.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_refusal(body: bytes) -> None:
    for form in (BUILD, SETTINGS):
        try:
            value = form.read(body)  # type: ignore[attr-defined]
        except (Malformed, Invalid) as refusal:
            msgspec.json.encode({"message": refusal.message, "field": refusal.field})
        else:
            assert isinstance(value, form.kind)  # type: ignore[attr-defined]


@hypothesis.given(strategies.text())
def test_an_unknown_field_is_named_whatever_its_name(name: str) -> None:
    hypothesis.assume(name not in AskBuild.__struct_fields__)
    body = msgspec.json.encode({name: 1})
    with pytest.raises(Invalid) as refused:
        BUILD.read(body)
    assert refused.value.field is None or len(refused.value.field) <= 200


@hypothesis.given(strategies.text())
def test_a_branch_must_be_short_printable_text(name: str) -> None:
    try:
        taken = BUILD.read(msgspec.json.encode({"branch": name})).branch
    except BoxschedError:
        return
    assert taken == name
    assert 1 <= len(name) <= 255
    assert not name.startswith("-")
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)


@hypothesis.given(strategies.text())
def test_plain_names_are_accepted(name: str) -> None:
    try:
        checks.plain(name, "x")
    except Invalid:
        return
    name.encode()
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)


@pytest.mark.parametrize("text", ["a\udcff", "\ud800", "", "a" * 256, "a\0", "a\x9b"])
def test_invalid_names_in_urls(text: str) -> None:
    with pytest.raises(Invalid):
        checks.plain(text, "x")


# --- Checks ---------------------------------------------------------------------------------

ACCEPTED = re.compile(public_keys.pattern(r"\Z"))


@pytest.mark.parametrize(
    "kind", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"]
)
def test_public_keys_are_checked(kind: str) -> None:
    blob = len(kind).to_bytes(4, "big") + kind.encode() + bytes(60)
    key = f"{kind} {base64.b64encode(blob).decode()}"
    given = f"{key} ada@home, the old one \n"
    assert ACCEPTED.match(given)
    assert public_keys.without_comment(given) == key


@hypothesis.given(strategies.from_regex(ACCEPTED))
def test_a_public_key_is_kept_as_one_line_of_two_words(given: str) -> None:
    key = public_keys.without_comment(given)
    assert ACCEPTED.match(key)
    assert "\n" not in key and len(key.split(" ")) == 2


# --- Cached answers -----------------------------------------------------------------------------


def key(name: str, body: str = "b", scope: str = "s") -> IdempotencyKey:
    return IdempotencyKey(scope, name, body)


def test_the_first_answer_stays_the_first() -> None:
    seen = RecentAnswers()
    seen.keep(key("a"), 202, b"first")
    seen.keep(key("a"), 202, b"second")
    again = seen.again(key("a"))
    assert again is not None
    assert (again.status, again.body) == (202, b"first")
    with pytest.raises(Conflict):
        seen.again(key("a", body="other"))
    assert seen.again(key("a", scope="elsewhere")) is None
    assert seen.again(None) is None


def test_the_memory_of_the_cache_is_limited() -> None:
    seen = RecentAnswers(at_most=10_000)
    for n in range(100):
        seen.keep(key(str(n)), 201, b"x" * 400, "/here")
    assert seen.again(key("0")) is None
    assert seen.again(key("99")) is not None
    seen.keep(key("big"), 201, b"x" * 20_000, "/here")
    assert seen.again(key("99")) is None


# --- The write buffer of a reader ---------------------------------------------------------------


async def test_a_basket_returns_everything_in_order_and_then_its_end() -> None:
    basket = WriteBuffer()
    await basket.put(b"a")
    await basket.put(b"b")
    assert await basket.take(1) == b"ab"
    assert await basket.take(0.001) == b""
    await basket.put(b"c")
    basket.close()
    assert await basket.take(1) == b"c"
    assert await basket.take(1) is None


async def test_a_full_basket_makes_the_writer_wait() -> None:
    basket = WriteBuffer()
    size = 16 * 1024

    async def fill() -> None:
        for _ in range(100):
            await basket.put(b"x" * size)
        basket.close()

    filling = asyncio.create_task(fill())
    taken = 0
    while (data := await basket.take(1)) is not None:
        assert len(data) <= 6 * size
        taken += len(data)
    await filling
    assert taken == 100 * size


# --- One answer for many callers
# -------------------------------------------------------------------


async def test_requests_during_an_answer_share_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, doors = asyncio.Queue[int](), [asyncio.Event() for _ in range(3)]
    count = itertools.count()
    activity = SharedActivity(None, clock=lambda: 0.0)  # type: ignore[arg-type]

    async def make() -> int:
        number = next(count)
        begun.put_nowait(number)
        await doors[number].wait()
        return number

    monkeypatch.setattr(activity, "_make", make)
    first = [asyncio.create_task(activity.made()) for _ in range(5)]
    assert await begun.get() == 0
    later = [asyncio.create_task(activity.made()) for _ in range(5)]
    await asyncio.sleep(0)
    assert begun.empty()
    for door in doors:
        door.set()
    assert set(await asyncio.gather(*first)) == {0}
    assert set(await asyncio.gather(*later)) == {1}  # started after they asked
    assert next(count) == 2

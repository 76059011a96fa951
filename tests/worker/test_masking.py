"""Secrets in a job's output: no form of one is left, however the output is divided into chunks."""

import base64
import itertools
import json
import time
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxsched.worker.supervisor.masking import (
    BLOCK_BYTES,
    MASK,
    MIN_BYTES,
    Masker,
    Masks,
    is_masked,
)

VALUE = "s3cr3t/value+ü 1"
KEY = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA7\nq1w2e3r4t5\n-----END KEY-----\n"


def masked(chunks: list[bytes], *values: str) -> bytes:
    masker = Masker(Masks(values))
    return b"".join(map(masker.feed, chunks)) + masker.finish()


def once(text: str | bytes, *values: str) -> bytes:
    return masked([text.encode() if isinstance(text, str) else text], *values)


def test_a_value_is_shown_as_stars_and_the_rest_is_unchanged() -> None:
    assert once(f"a {VALUE} b{VALUE}c\n", VALUE) == b"a *** b***c\n"
    assert once(f"{VALUE}{VALUE}", VALUE) == b"***"
    assert once("nothing here\n", VALUE) == b"nothing here\n"


@pytest.mark.parametrize("values", [("token", "token-and-more"), ("token-and-more", "token")])
def test_of_values_that_begin_alike_the_longest_is_masked_whole(values: tuple[str, str]) -> None:
    assert once("<token-and-more>", *values) == b"<***>"
    assert once("<token>", *values) == b"<***>"
    assert once("<token-and-x>", *values) == b"<***-and-x>"
    assert masked([b"<token-", b"and-more>"], *values) == b"<***>"


@pytest.mark.parametrize("before", ["", "u", "us", "user:", "user::"])
@pytest.mark.parametrize("behind", ["", "\n", "!!", "and more"])
def test_base64_at_every_alignment_is_masked(before: str, behind: str) -> None:
    data = (before + VALUE + behind).encode()
    for text in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        shown = once(b"<" + text + b">", VALUE)
        assert MASK in shown
        left = shown.replace(MASK, b"")
        assert len(left) <= len(base64.b64encode((before + behind).encode())) + 8
        # No four characters of the value's own part are left.
        own = text[(len(before) * 4 + 2) // 3 + 1 : ((len(before) + len(VALUE.encode())) * 4) // 3]
        assert not any(own[at : at + 4] in left for at in range(len(own) - 3))


@pytest.mark.parametrize("value", ["s3cr3t", "s3cr3t!", "s3cr3t!!"])
@pytest.mark.parametrize("before", ["", "u", "us", "use"])
def test_in_base64_only_characters_that_neighbours_share_are_left(before: str, value: str) -> None:
    """A character has six bits: those with none but the value's bits are masked."""
    text = base64.b64encode(f"{before}{value}behind".encode())
    first = -(-8 * len(before) // 6)
    last = 8 * len(before + value) // 6
    assert once(text, value) == text[:first] + MASK + text[last:]


@pytest.mark.parametrize(
    "text",
    [
        urllib.parse.quote(VALUE),
        urllib.parse.quote(VALUE, safe=""),
        urllib.parse.quote_plus(VALUE),
        urllib.parse.quote(VALUE, safe="").lower(),
        json.dumps(VALUE)[1:-1],
        "\n".join(VALUE),
        "\r\n".join([VALUE[:4], VALUE[4:]]),
    ],
)
def test_other_encodings_are_masked(text: str) -> None:
    assert set(once(text, VALUE).split()) == {MASK}


def test_a_wrapped_base64_text_is_hidden_line_by_line() -> None:
    data = ("x" * 20 + KEY * 3 + "y" * 20).encode()
    text = base64.encodebytes(data)
    lines = once(text, KEY).split(b"\n")
    assert MASK in lines
    assert sum(map(len, lines)) < 80


def test_each_line_of_a_value_is_masked_also_with_something_before_it() -> None:
    shown = once("".join(f"> {line}\r\n" for line in KEY.splitlines()), KEY)
    assert shown == b"> ***\r\n" * 4


def test_short_values_are_not_masked() -> None:
    assert once("abc abc", "abc") == b"abc abc"
    assert once("a\nbc", "a\nb\nc") == b"a\nbc"
    assert once("abcd", "abcd") == MASK


def test_overlapping_values_leave_nothing_of_either() -> None:
    assert once("<abcdefghi>", "abcdef", "defghi") == b"<***>"


def test_a_long_value_is_masked_as_a_whole_and_in_part() -> None:
    value = "".join(chr(33 + n * 7 % 90) for n in range(1_000))
    assert once(f"<{value}>", value) == b"<***>"
    assert MASK in once(value[: 3 * BLOCK_BYTES], value)


def test_output_that_cannot_be_a_secret_is_written_at_once() -> None:
    masker = Masker(Masks([VALUE]))
    assert masker.feed(b"Password: ") == b"Password: "
    assert masker.feed(b"ab s3") == b"ab "
    assert masker.feed(b"nt") == b"s3nt"


def test_line_ends_are_held_back_only_for_a_limited_time() -> None:
    masker = Masker(Masks([VALUE]))
    given = b"".join(masker.feed(b"\n" * 100) for _ in range(100))
    assert len(given) == 10_000
    given = masker.feed(b"s3c") + b"".join(masker.feed(b"\n" * 100) for _ in range(100))
    assert len(given) > 8_000
    assert given + masker.finish() == b"s3c" + b"\n" * 10_000


_values = st.lists(
    st.text(st.sampled_from("ab\n+/é"), min_size=4, max_size=9)
    | st.text(st.sampled_from("ab"), min_size=60, max_size=140),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(values=_values, data=st.data())
def test_every_division_into_chunks_gives_the_same_result(
    values: list[str], data: st.DataObject
) -> None:
    pieces = st.sampled_from(values) | st.text(st.sampled_from("ab\n\r+/é"), max_size=6)
    text = "".join(data.draw(st.lists(pieces, max_size=8))).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    places = [0, *cuts, len(text)]
    chunks = [text[start:stop] for start, stop in itertools.pairwise(places)]
    shown = masked(chunks, *values)
    assert shown == masked([text], *values)
    assert shown == masked([text[at : at + 1] for at in range(len(text))], *values)
    squeezed = shown.translate(None, b"\r\n")
    for value in values:
        plain = value.translate({10: None, 13: None})
        assert len(plain) < 4 or plain.encode() not in squeezed
    line_ends = (shown.count(b"\n"), shown.count(b"\r"))
    assert line_ends == (text.count(b"\n"), text.count(b"\r"))


def test_the_time_grows_linearly_with_the_output() -> None:
    """The worst output for the worst value: each byte may be its start."""
    masks = Masks(["a" * 60_000 + "b", "a" * 63 + "c", *("a" * n + "c" for n in range(4, 60))])

    def seconds(size: int) -> float:
        masker = Masker(masks)
        began = time.process_time()
        for _ in range(size // 65_536):
            masker.feed(b"a" * 65_536)
        return time.process_time() - began

    seconds(65_536)
    assert seconds(16 * 65_536) < 16 * 4 * seconds(4 * 65_536)


@pytest.mark.parametrize(
    "ends", ["", "\n", "\r", "\r\n", "\n\n\n"], ids=["none", "lf", "cr", "crlf", "three"]
)
def test_line_ends_do_not_make_a_value_long_enough(ends: str) -> None:
    """A log divides lines differently, so line ends do not count, wherever they are."""
    short, enough = "x" * (MIN_BYTES - 1), "x" * MIN_BYTES
    for around in (f"{{}}{ends}", f"{ends}{{}}", f"{ends}{{}}{ends}"):
        assert not is_masked(around.format(short))
        assert not Masks([around.format(short)])
        assert is_masked(around.format(enough))
        assert Masks([around.format(enough)])
    assert is_masked(short + "\t"), "other space counts"
    assert is_masked(f"{short[:2]}{ends}{short[2:]}y")

"""The page's modules without a page: output, streams and rows as values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.browser.page_actions import Run

pytestmark = pytest.mark.browser


LINES = """(m, chunks) => {
    const ansi = new m.AnsiLines();
    const lines = chunks.flatMap((chunk) => ansi.push(chunk));
    return [...lines, ansi.open].map((line) => line.map(({text, style}) => [text, style]));
}"""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("plain", [["plain", ""]]),
        ("\x1b[31mred\x1b[0m not", [["red", "f-1"], [" not", ""]]),
        ("\x1b[1;4;32mgreen", [["green", "bold underline f-2"]]),
        ("\x1b[38;5;196mred\x1b[39mno", [["red", "f-9"], ["no", ""]]),
        ("\x1b[48:2::0:0:250mblue", [["blue", "b-4"]]),
        ("\x1b[7minverse", [["inverse", "f-back b-fore"]]),
        ("\x9b33myellow", [["yellow", "f-3"]]),
        ("a\x1b]0;a title\x07b", [["ab", ""]]),
        ("a\x1b]52;c;ZXZpbA==\x1b\\b", [["ab", ""]]),
        ("a\x1bP1$q\x1b\\b\x9d8;;x\x9cc", [["abc", ""]]),
        ("a\x1b[2J\x1b[10;10Hb\x1b[?25l\x1b(B", [["ab", ""]]),
        ("10 %\r57 %\r100 %", [["100 %", ""]]),
        ("gone\x1b[2Kstays", [["stays", ""]]),
        ("bell\x07 and \x08back", [["bell and back", ""]]),
        ("\x1b[>4;1mnot a colour", [["not a colour", ""]]),
    ],
)
def test_only_colours_have_an_effect(js: Run, output: str, line: list[list[str]]) -> None:
    assert js("ansi", LINES, [output]) == [line]
    # Cut at any position, the result is the same: pieces are independent.
    split = js("ansi", LINES, list(output))
    assert split == [line]


def test_a_string_without_an_end_affects_only_its_line(js: Run) -> None:
    assert js("ansi", LINES, ["a\x1b]0;no end\nb"])[-1] == [["b", ""]]


def test_a_line_without_an_end_is_cut(js: Run) -> None:
    [[[text, _]]] = js("ansi", LINES, ["x" * 3_000] * 50)
    assert len(text) < 4_100 and text.endswith("is left out)")


PIECES = st.sampled_from([*"\x1b[]\x9b\x9d\x07\\m;?\r\n\x18Pa", "31", "\x1b[", "\x1b]"])


@given(st.lists(PIECES, max_size=30).map("".join))
@settings(max_examples=150, deadline=None)
def test_no_escape_sequence_is_ever_shown(js: Run, output: str) -> None:
    for line in js("ansi", LINES, [output]):
        for text, style in line:
            assert not set(text) & set("\x1b\x9b\x9d\x07\r\n"), output
            assert set(style) <= set("abcdefghijklmnopqrstuvwxyz-0123456789 "), output


MESSAGES = """(m, chunks) => {
    const messages = new m.Messages();
    return chunks.flatMap((chunk) => messages.push(chunk)).map(({id, data}) => [id, data]);
}"""


def test_messages_of_a_stream_may_be_cut_anywhere(js: Run) -> None:
    stream = ": hello\n\nid: 1.2.0\nevent: x\ndata: {}\n\n"
    stream += "retry: 9\ndata:a\r\ndata: b\r\n\r\nid: 1.3.0\n"
    told = [["1.2.0", "{}"], ["1.2.0", "a\nb"]]
    assert js("feed", MESSAGES, [stream]) == told
    assert js("feed", MESSAGES, list(stream)) == told


# Reads streams from a fake service, the last one forever, with a clock that runs fast.
FEED = """async (m, streams, reads) => {
    const {fetch, setTimeout} = globalThis, {random} = Math;
    const [asked, waits, seen] = [[], [], []];
    await new Promise((enough) => {
        globalThis.fetch = async (_, {headers}) => {
            asked.push(headers["Last-Event-ID"]);
            if (asked.length > reads) return enough(), new Promise(() => {});
            const played = streams.length > 1 ? streams.shift() : streams[0];
            if (played === null) throw new TypeError("nobody listens");
            const status = typeof played === "number" ? played : 200;
            return new Response(status === 200 ? played : "{}", {status});
        };
        globalThis.setTimeout = (done, ms) => ms < 60000 && (waits.push(ms), queueMicrotask(done));
        Math.random = () => 0.5;
        new m.Feed("1.1.1+2.1.1", {onEvents: (events) => seen.push(...events), onState: () => {}});
    });
    Object.assign(globalThis, {fetch, setTimeout});
    Math.random = random;
    return {asked, waits, seen: seen.map((event) => event.id)};
}"""
GREETING = "retry: 2000\n: connected\nid: 1.1.1+2.1.1\n\n"


def test_a_service_that_returns_continues_at_its_cursor(js: Run) -> None:
    first = GREETING + "id: 1.2.1+2.1.1\ndata: {}\n\nid: 1.2.1+2.2.1\ndata: {}\n\nid: 1.3.1"
    streams = [first, None, None, 503, "id: 1.3.1+2.2.1\ndata: {}\n\n"]
    told = js("feed", FEED, streams, 5)
    assert told["seen"] == ["1.2.1+2.1.1", "1.2.1+2.2.1", "1.3.1+2.2.1"]
    assert told["asked"] == ["1.1.1+2.1.1", *["1.2.1+2.2.1"] * 4, "1.3.1+2.2.1"]
    assert told["waits"] == [500, 1_000, 2_000, 4_000, 500]


def test_a_service_that_ends_each_stream_at_once_is_asked_less_and_less_often(js: Run) -> None:
    told = js("feed", FEED, [GREETING], 7)
    assert told["waits"] == [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]
    assert set(told["asked"]) == {"1.1.1+2.1.1"}


AFTER = "(m, a, b) => m.isAfter(m.placeOf(a), m.placeOf(b))"


@pytest.mark.parametrize(
    ("a", "b", "after"),
    [
        ("1.2.1", "1.2.1", False),
        ("1.2.2", "1.2.1", True),
        ("1.10.1", "1.9.5", True),
        ("1.9.5", "1.10.1", False),
        ("1.2.1", "1.2.1+3.1.1", False),
        ("1.2.1+3.1.1", "1.2.1", True),
        ("1.2.1+3.7.1", "1.9.1+3.6.9", True),
        ("1.9.1+3.6.9", "1.2.1+3.7.1", True),
        ("1.0.0", "3.1.1", False),
    ],
)
def test_a_cursor_names_several_shards(js: Run, a: str, b: str, after: bool) -> None:
    assert js("cursor", AFTER, a, b) is after

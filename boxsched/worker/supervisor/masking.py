"""Replace secrets in a job's output by ***.

Imported by the spawner, so it imports only small modules of the standard library.

These forms of a value are found: unchanged, line by line, in base64 (both alphabets, all three
alignments), in URL encodings, and as a JSON string. Line ends are ignored: a value that is wrapped
over several lines is found, and each of its lines shows ***.

Each form is cut into patterns of MIN_BYTES to BLOCK_BYTES; consecutive patterns cover a longer
form. So the time for each byte of output has a limit, for all values and all output. At most
BLOCK_BYTES - 1 bytes of output, not counting line ends, wait for more output.
"""

import base64
import json
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator

MASK = b"***"
MIN_BYTES = 4  # shortest pattern; a shorter value is not masked, because it occurs in many words
BLOCK_BYTES = 64
HELD_LINE_ENDS = 1_024  # a value with more line ends in it is not found

_LINE_ENDS = b"\r\n"
_TEXT = re.compile(rb"[^\r\n]+")
_NOWHERE = re.compile(rb"(?!)")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"
# The characters that different URL encoders leave unchanged, besides letters, digits and "-._".
_LEFT = (b"~", b"~/", b"~!'()*", b"~!'()*;/?:@&=+$,#", b"*")

_Span = tuple[int, int]


class Masks:
    """The patterns of some values."""

    def __init__(self, values: Iterable[str]) -> None:
        patterns = {block for value in values for form in _forms(value) for block in _blocks(form)}
        self._patterns = patterns
        self._sorted = sorted(patterns)
        lengths: dict[bytes, set[int]] = {}
        for pattern in patterns:
            lengths.setdefault(pattern[:MIN_BYTES], set()).add(len(pattern))
        self._lengths = {begin: sorted(found, reverse=True) for begin, found in lengths.items()}
        self._begin = _begin_of(lengths)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def spans(self, text: bytes) -> Iterator[_Span]:
        """Yield where patterns are, in the order of their starts; they may overlap."""
        at = 0
        while found := self._begin.search(text, at):
            start = found.start()
            for length in self._lengths.get(text[start : start + MIN_BYTES], ()):
                part = text[start : start + length]
                if part in self._patterns:
                    yield start, start + len(part)
                    break
            at = start + 1

    def begins(self, text: bytes) -> int:
        """Return where the longest suffix starts that begins a pattern; len(text) if none does."""
        for start in range(max(0, len(text) - BLOCK_BYTES + 1), len(text)):
            end = text[start:]
            place = bisect_right(self._sorted, end)
            if place < len(self._sorted) and self._sorted[place].startswith(end):
                return start
        return len(text)


class Masker:
    """Masks one stream. Its whole output does not depend on the division into chunks."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._held = b""  # output that may be the beginning of a value
        self._covered = 0  # bytes of it, without line ends, that are known to belong to a value
        self._masking = False  # the last byte of output belonged to a mask

    def feed(self, chunk: bytes) -> bytes:
        """Add output; return all output that is certain to be complete."""
        raw = self._held + chunk
        text = raw.translate(None, _LINE_ENDS)
        end = self._masks.begins(text)
        if end < len(text) and self._line_ends(raw, len(text) - end) > HELD_LINE_ENDS:
            end = len(text)
        return self._give(raw, text, end)

    def finish(self) -> bytes:
        """Return the output that was held back."""
        raw = self._held
        text = raw.translate(None, _LINE_ENDS)
        return self._give(raw, text, len(text))

    @staticmethod
    def _line_ends(raw: bytes, held: int) -> int:
        """Count the line ends after the start of the last ``held`` other bytes."""
        tail = raw[-(held + HELD_LINE_ENDS + 1) :]
        if len(tail.translate(None, _LINE_ENDS)) < held:
            return HELD_LINE_ENDS + 1
        while len(tail.translate(None, _LINE_ENDS)) > held:
            tail = tail[len(tail.translate(None, _LINE_ENDS)) - held :]
        return len(tail.lstrip(_LINE_ENDS)) - held

    def _give(self, raw: bytes, text: bytes, end: int) -> bytes:
        """Return the output before ``end``, an index into ``text``; hold the rest of ``raw``."""
        spans = _merged([(0, self._covered), *self._masks.spans(text)])
        self._covered = max((stop - end for start, stop in spans if start <= end < stop), default=0)
        ahead = deque(spans)
        given: list[bytes] = []
        behind = place = 0  # indexes into raw and text
        for found in _TEXT.finditer(raw):
            self._plain(given, raw[behind : found.start()])
            behind = found.start() + min(found.end() - found.start(), end - place)
            self._line(given, raw[found.start() : behind], place, ahead)
            place += behind - found.start()
            if behind < found.end():
                break
        else:
            self._plain(given, raw[behind:])
            behind = len(raw)
        self._held = raw[behind:]
        return b"".join(given)

    def _line(self, given: list[bytes], line: bytes, place: int, ahead: deque[_Span]) -> None:
        """Add a part of a line that begins at ``place``; drop the spans that end in it."""
        at = 0
        while at < len(line):
            while ahead and ahead[0][1] <= place + at:
                ahead.popleft()
            start, stop = ahead[0] if ahead else (place + len(line), place + len(line))
            upto = min(len(line), (stop if start <= place + at else start) - place)
            if start > place + at:
                self._plain(given, line[at:upto])
            elif not self._masking:
                given.append(MASK)
                self._masking = True
            at = upto

    def _plain(self, given: list[bytes], part: bytes) -> None:
        if part:
            given.append(part)
            self._masking = False


def is_masked(value: str) -> bool:
    """Whether the value is long enough to be masked."""
    return len(value.translate({10: None, 13: None})) >= MIN_BYTES


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    """Return the spans in order, without overlaps."""
    merged: list[_Span] = []
    for start, stop in spans:
        if start >= stop:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def _begin_of(begins: Iterable[bytes]) -> re.Pattern[bytes]:
    """Return an expression that finds quickly where a pattern may begin, by the first bytes."""
    if not begins:
        return _NOWHERE
    columns = [{begin[column] for begin in begins} for column in range(MIN_BYTES)]
    sets = (b"".join(b"\\x%02x" % byte for byte in sorted(column)) for column in columns)
    return re.compile(b"".join(b"[" + one + b"]" for one in sets))


def _blocks(form: bytes) -> Iterator[bytes]:
    form = form.translate(None, _LINE_ENDS)
    if len(form) < MIN_BYTES:
        return
    for start in range(0, max(1, len(form) - BLOCK_BYTES + 1), BLOCK_BYTES):
        yield form[start : start + BLOCK_BYTES]
    yield form[-BLOCK_BYTES:]


def _forms(value: str) -> Iterator[bytes]:
    """Yield the forms in which a value is found."""
    if not is_masked(value):
        return
    for text in {value, value.strip()}:
        data = text.encode()
        yield data
        yield from _in_base64(data)
        yield from _in_urls(data)
        yield json.dumps(text)[1:-1].encode()
        yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
    for line in value.splitlines():
        yield line.strip().encode()


def _in_base64(data: bytes) -> Iterator[bytes]:
    """Yield the base64 forms, also as a part of longer data.

    Without the characters at both ends that also depend on neighbouring bytes.
    """
    whole = base64.b64encode(data)
    parts = [whole, whole.rstrip(b"=")]
    for before in range(3):
        text = base64.b64encode(bytes(before) + data)
        behind = (0, 3, 2)[(before + len(data)) % 3]
        parts.append(text[(0, 2, 3)[before] : len(text) - behind])
    for part in parts:
        yield part
        yield part.translate(_URL_SAFE)


def _in_urls(data: bytes) -> Iterator[bytes]:
    for left in _LEFT:
        kept = _UNRESERVED + left
        for form in (b"%%%02X", b"%%%02x"):
            text = b"".join(bytes((byte,)) if byte in kept else form % byte for byte in data)
            yield text
            yield text.replace(b"%20", b"+")

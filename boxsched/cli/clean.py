"""Make text from outside safe for a terminal.

Branches, messages and logs are untrusted: an escape sequence in them could set the window's title,
write the clipboard, overwrite other lines, or reverse the direction of a line. The cleaned text
contains no control characters except newline and tab, and no bidi controls. With colour it also
contains SGR escape sequences (colour and weight), but no others.
"""

import re

_ESC = "\x1b"
_RESET = "\x1b[0m"
_SGR = re.compile(r"\[[0-9;:]{0,64}m")
_MAX_SEQUENCE = 4_096  # characters; no program prints longer sequences

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Characters that are not printed: C0 (except newline and tab), DEL, C1, bidi, lone surrogates.
_ODD = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}\ud800-\udfff]")

# A sequence of ECMA-48 after its introducer (ESC, or the C1 form of ESC and a letter).
_CSI_BODY = re.compile(r"[0-?]*[ -/]*")
_STRING_END = re.compile("\x07|\x1b\\\\|\x9c|\x18|\x1a|\n")
_STRINGS = "]PX^_"  # OSC, DCS, SOS, PM, APC: all run until a terminator
_NF_BODY = re.compile(r"[ -/]*")
_C1_FORMS = {"\x9b": "[", "\x9d": "]", "\x90": "P", "\x98": "X", "\x9e": "^", "\x9f": "_"}


class Cleaner:
    """Cleans a stream of text. A sequence may be split over any number of ``feed`` calls."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._rest = ""  # the beginning of an incomplete sequence
        self._coloured = False

    def feed(self, text: str) -> str:
        """Add text; return the text that can be shown now."""
        text, self._rest = self._rest + text, ""
        shown: list[str] = []
        at = 0
        while (odd := _ODD.search(text, at)) is not None:
            shown.append(text[at : odd.start()])
            step = self._odd(text, odd.start())
            if step is None:
                self._rest = text[odd.start() :]
                return "".join(shown)
            at = step[0]
            shown.append(step[1])
        shown.append(text[at:])
        return "".join(shown)

    def end(self) -> str:
        """End the stream: return what resets the colour; drop an incomplete sequence."""
        self._rest = ""
        return _RESET if self._coloured else ""

    def _odd(self, text: str, at: int) -> tuple[int, str] | None:
        """Return (where to continue, what is shown instead); None: more text is needed."""
        char = text[at]
        if char == "\r":  # show an overwritten line as a separate line
            if at + 1 == len(text):
                return None
            return at + 1, "" if text[at + 1] in "\r\n" else "\n"
        if char == _ESC:
            return self._escape(text, at + 1)
        if char in _C1_FORMS:
            return self._sequence(text, _C1_FORMS[char], at + 1)
        return at + 1, ""

    def _escape(self, text: str, at: int) -> tuple[int, str] | None:
        if at == len(text):
            return None
        if text[at] == "[" and self._colour and (sgr := _SGR.match(text, at)) is not None:
            self._coloured = True
            return sgr.end(), _ESC + sgr.group()
        if text[at] == "[" or text[at] in _STRINGS:
            return self._sequence(text, text[at], at + 1)
        body = _end(_NF_BODY, text, at)
        if body == len(text):
            return self._unfinished(text, at)
        return (body + 1 if "0" <= text[body] <= "~" else body), ""

    def _sequence(self, text: str, form: str, at: int) -> tuple[int, str] | None:
        if form == "[":
            body = _end(_CSI_BODY, text, at)
            if body == len(text):
                return self._unfinished(text, at)
            return (body + 1 if "@" <= text[body] <= "~" else body), ""
        end = _STRING_END.search(text, at)
        if end is None:
            return self._unfinished(text, at)
        # A newline also ends it and is shown: an unclosed string must not hide the rest of the log.
        return (end.start() if end.group() == "\n" else end.end()), ""

    def _unfinished(self, text: str, at: int) -> tuple[int, str] | None:
        return (at, "") if len(text) - at > _MAX_SEQUENCE else None


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()


def plain(text: str) -> str:
    """Return a name or message as one line of plain text."""
    cleaner = Cleaner(colour=False)
    cleaned = cleaner.feed(text) + cleaner.end()
    return re.sub("[\n\t\u2028\u2029]+", " ", cleaned)

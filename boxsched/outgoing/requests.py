"""A request as a value: pure modules make it, ``delivery`` sends it."""

from collections.abc import Mapping

import attrs

USER_AGENT = "boxsched"


@attrs.frozen
class OutgoingRequest:
    """A POST with a JSON body. ``done_if``: an answer 400 that contains this text means that the
    receiver has it already.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)  # may contain a token
    body: bytes = attrs.field(repr=False)
    done_if: bytes | None = None

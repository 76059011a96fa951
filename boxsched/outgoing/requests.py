"""A request as a value, as the pure modules make it and ``delivery`` sends it."""

from collections.abc import Mapping

import attrs

USER_AGENT = "boxsched"


@attrs.frozen
class Outgoing:
    """A POST with a JSON body."""

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)  # with a token
    body: bytes = attrs.field(repr=False)

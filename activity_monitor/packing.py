"""Compressed answers: whether a client accepts gzip, and the compressed bytes.

The BREACH attack guesses a secret from the length of a compressed answer that also contains text of
the attacker's choice. It is not possible here: tokens and secrets are only in answers to POST,
which are never compressed. And browsers do not send the session cookie from other sites
(SameSite=Strict).
"""

import gzip

LEAST_BYTES = 1_024  # a smaller body fits into one packet without compression
QUICK, BEST = 3, 9


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether this Accept-Encoding allows gzip; an empty one does not."""
    weights = dict(map(_weighed, accept_encoding.lower().split(",")))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def packed(body: bytes, level: int = QUICK) -> bytes:
    """Compress without a timestamp, so that every node serves the same bytes."""
    return gzip.compress(body, level, mtime=0)


def _weighed(part: str) -> tuple[str, float]:
    """Parse "gzip;q=0.5" into coding and weight; a malformed weight is 0."""
    coding, _, parameter = part.partition(";")
    name, _, value = (text.strip() for text in parameter.partition("="))
    if name != "q":
        return coding.strip(), 1.0
    well_formed = value.isascii() and value.replace(".", "", 1).isdigit()
    return coding.strip(), float(value) if well_formed else 0.0

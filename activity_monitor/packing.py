"""Compressed answers: whether a client accepts gzip, and the compressed bytes.

BREACH guesses a secret by the length of a compressed answer that also holds text of the attacker's
choice. Here it finds nothing: tokens and secrets stand only in answers to POST, which are never
compressed, and a browser does not send the session cookie from another site (SameSite=Strict).
"""

import gzip

LEAST_BYTES = 1_024  # a smaller body fits into one packet anyway
QUICK, BEST = 3, 9


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether this Accept-Encoding allows gzip; an empty one does not."""
    weights = dict(map(_weighed, accept_encoding.lower().split(",")))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def packed(body: bytes, level: int = QUICK) -> bytes:
    """Without the time, so that every node serves the same bytes."""
    return gzip.compress(body, level, mtime=0)


def _weighed(part: str) -> tuple[str, float]:
    """ "gzip;q=0.5" as coding and weight; a malformed weight is 0."""
    coding, _, parameter = part.partition(";")
    name, _, value = (text.strip() for text in parameter.partition("="))
    if name != "q":
        return coding.strip(), 1.0
    well_formed = value.isascii() and value.replace(".", "", 1).isdigit()
    return coding.strip(), float(value) if well_formed else 0.0

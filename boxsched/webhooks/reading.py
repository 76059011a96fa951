"""Read a delivery's body: check it like any body, then pass it to the provider's module."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

import msgspec

from boxsched.errors import Invalid, Malformed
from boxsched.json_text import check_form, check_keys, check_top_keys, malformed
from boxsched.webhooks.events import Ignored, ParsedDelivery
from boxsched.webhooks.headers import Headers, one
from boxsched.webhooks.providers import (
    bitbucket,
    bitbucket_server,
    forgejo,
    generic,
    gitea,
    github,
    gitlab,
    gogs,
)

MAX_COMMAS = 300_000  # in a body: 2,048 commits, GitHub's limit, have about 60,000
MAX_FORM_FIELDS = 10
MAX_ESCAPES = 1_000_000  # in a form; JSON is better for large deliveries
MAX_FIELD_CHARACTERS = 200
FORM = "application/x-www-form-urlencoded"

_READERS: Mapping[str, Callable[[Headers, bytes], ParsedDelivery]] = {
    "github": github.read,
    "gitlab": gitlab.read,
    "bitbucket": bitbucket.read,
    "bitbucket-server": bitbucket_server.read,
    "gitea": gitea.read,
    "forgejo": forgejo.read,
    "gogs": gogs.read,
    "generic": generic.read,
}
PROVIDERS = frozenset(_READERS)

_OBJECT = re.compile(rb"\s*\{")
_AT = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`\Z")
_MEMBER = re.compile(r"Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`\Z")


def read(provider: str, headers: Headers, body: bytes) -> ParsedDelivery:
    """Read a delivery. Check its signature first, because this parses the body.

    Raises Malformed if the body is not a JSON object, has a duplicate key, or has a field with
    another type than the host documents. Raises Invalid for invalid values from the generic
    provider. It takes about 30 ms per MiB, so read a large body in a thread.
    """
    body = _payload(headers, body)
    _check_text(body)
    try:
        delivery = _READERS[provider](headers, body)
    except msgspec.ValidationError as error:
        if provider != "generic":
            raise _field_error(str(error), Malformed) from None
        check_form(body)  # report malformed JSON first, also after an invalid value
        check_keys(body)
        raise _field_error(str(error), Invalid) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise malformed(error) from None
    if all(isinstance(event, Ignored) for event in delivery.events):
        check_top_keys(body)  # GitLab itself sends duplicate keys, in events that are not used
    else:
        check_keys(body)
    return delivery


def _payload(headers: Headers, body: bytes) -> bytes:
    """Return the JSON text. GitHub and similar hosts can also send it as a field of a form.

    Many HTTP clients (curl, urllib) declare a body as a form by default. A body that begins like an
    object is not a form.
    """
    kind = (one(headers, "Content-Type") or "").partition(";")[0].strip().lower()
    if kind != FORM or _OBJECT.match(body):
        return body
    if body.count(b"%") > MAX_ESCAPES:
        raise Malformed(f"the form has more than {MAX_ESCAPES} escapes: send application/json")
    try:
        fields = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except ValueError as error:
        raise Malformed("the body is not a form in UTF-8") from error
    values = [value for name, value in fields if name == "payload"]
    if len(values) != 1:
        raise Malformed("a form must have exactly one field `payload`", "payload")
    return values[0].encode()


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise malformed(error) from None
    if body.count(b",") > MAX_COMMAS:
        raise Malformed(f"the body has more than {MAX_COMMAS} values")


def _field_error(text: str, kind: type[Malformed] | type[Invalid]) -> Malformed | Invalid:
    """Return the error for a value that msgspec refused, with the field's name."""
    place = _AT.search(text)
    path = place["path"] if place else ""
    said = text[: place.start()] if place else text
    member = _MEMBER.match(said)
    if member is None and not path:
        return Malformed("the body is not a JSON object")
    if member is not None:
        path = f"{path}.{member['name']}" if path else member["name"]
        said = "is missing" if member["what"].startswith("missing") else "unknown field"
    else:
        said = said.replace("`", "")
    return kind(said[:MAX_FIELD_CHARACTERS], path[:MAX_FIELD_CHARACTERS] or None)

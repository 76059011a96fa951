"""Reads the body of a delivery: checked as any body is, then by the provider's module."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

import msgspec

from boxsched.errors import Invalid, Malformed
from boxsched.json_text import check_form, check_keys, check_top_keys, malformed
from boxsched.webhooks.events import Delivery, Ignored
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

MAX_COMMAS = 300_000  # of a body: 2,048 commits, GitHub's most, have some 60,000
MAX_FORM_FIELDS = 10
MAX_ESCAPES = 1_000_000  # of a form; JSON is the better choice for large deliveries
MAX_FIELD_CHARACTERS = 200
FORM = "application/x-www-form-urlencoded"

_READERS: Mapping[str, Callable[[Headers, bytes], Delivery]] = {
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


def read(provider: str, headers: Headers, body: bytes) -> Delivery:
    """What a delivery says. Check its signature first: this looks into the body.

    Raises Malformed for a body that is no JSON object, has a key twice, or has a field of another
    type than the host documents; and Invalid where a body of the generic provider does not make
    sense. Time grows with the body, about 30 ms a MiB: read a large one in a thread.
    """
    body = _payload(headers, body)
    _check_text(body)
    try:
        delivery = _READERS[provider](headers, body)
    except msgspec.ValidationError as error:
        if provider != "generic":
            raise _misfit(str(error), Malformed) from None
        check_form(body)  # what is malformed behind the first wrong value is malformed
        check_keys(body)
        raise _misfit(str(error), Invalid) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise malformed(error) from None
    if all(isinstance(event, Ignored) for event in delivery.events):
        check_top_keys(body)  # GitLab itself sends a key twice, in events that are not used
    else:
        check_keys(body)
    return delivery


def _payload(headers: Headers, body: bytes) -> bytes:
    """The JSON text: GitHub and its kin can also send it as a field of a form.

    Many HTTP clients (curl, urllib) call a body a form unless they are told what it is. What begins
    like an object is none.
    """
    kind = (one(headers, "Content-Type") or "").partition(";")[0].strip().lower()
    if kind != FORM or _OBJECT.match(body):
        return body
    if body.count(b"%") > MAX_ESCAPES:
        raise Malformed(f"the form has more than {MAX_ESCAPES} escapes: send application/json")
    try:
        fields = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except ValueError as error:
        raise Malformed("the body is no form in UTF-8") from error
    values = [value for name, value in fields if name == "payload"]
    if len(values) != 1:
        raise Malformed("a form needs exactly one field payload", "payload")
    return values[0].encode()


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise malformed(error) from None
    if body.count(b",") > MAX_COMMAS:
        raise Malformed(f"the body has more than {MAX_COMMAS} values")


def _misfit(text: str, kind: type[Malformed] | type[Invalid]) -> Malformed | Invalid:
    """msgspec's refusal of a value, with the field as a caller writes it."""
    place = _AT.search(text)
    path = place["path"] if place else ""
    said = text[: place.start()] if place else text
    member = _MEMBER.match(said)
    if member is None and not path:
        return Malformed("the body is no JSON object")
    if member is not None:
        path = f"{path}.{member['name']}" if path else member["name"]
        said = "is missing" if member["what"].startswith("missing") else "unknown field"
    else:
        said = said.replace("`", "")
    return kind(said[:MAX_FIELD_CHARACTERS], path[:MAX_FIELD_CHARACTERS] or None)

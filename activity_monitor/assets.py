"""The page's files, read once: templates, and static files with a common version."""

import hashlib
import string
from collections.abc import Mapping
from importlib import resources

import attrs

from activity_monitor.packing import BEST, packed

_CONTENT_TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_VERSION_DIGITS = 12
PARTS = ("signed_out",)  # templates that are inserted into others, without placeholders


@attrs.frozen
class StaticFile:
    body: bytes = attrs.field(repr=False)
    packed: bytes = attrs.field(repr=False)  # the compressed body
    content_type: str
    etag: str


@attrs.frozen
class Assets:
    """``version`` is a hash of all static files, and a part of their paths.

    The modules import each other by relative URLs, so a change of one file changes all paths.
    """

    version: str
    static: Mapping[str, StaticFile]
    templates: Mapping[str, string.Template]

    def page(self, name: str, **words: str) -> str:
        """Fill in a template. The words are not escaped, so they must not come from outside."""
        modules = "\n".join(
            f'<link rel="modulepreload" href="/static/{self.version}/{file}">'
            for file in self.static
            if file.endswith(".js")
        )
        static = f"/static/{self.version}"
        parts = {part: self.templates[part].template for part in PARTS}
        return self.templates[name].substitute(parts, static=static, modules=modules, **words)


def load() -> Assets:
    """Read everything from the package's own files."""
    root = resources.files(__package__)
    static = {}
    for entry in sorted(root.joinpath("static").iterdir(), key=lambda entry: entry.name):
        content_type = _CONTENT_TYPES.get(entry.name.rpartition(".")[2])
        if content_type is not None:
            body = entry.read_bytes()
            etag = hashlib.sha256(body).hexdigest()
            static[entry.name] = StaticFile(body, packed(body, BEST), content_type, etag)
    templates = {
        entry.name.removesuffix(".html"): string.Template(entry.read_text(encoding="utf-8"))
        for entry in root.joinpath("templates").iterdir()
        if entry.name.endswith(".html")
    }
    everything = "".join(f"{name} {file.etag}\n" for name, file in static.items())
    version = hashlib.sha256(everything.encode()).hexdigest()[:_VERSION_DIGITS]
    return Assets(version, static, templates)

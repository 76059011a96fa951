"""The messages between nodes through Redis, and the names of their keys.

Data from Redis is untrusted: its size is bounded, it is decoded strictly, and data that does not
decode is dropped and counted.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated

import attrs
import msgspec

from boxsched.model import WorkerId

GROUP = "nodes"
MESSAGE_SHARDS = 1_000
# three numbers of at most nine bytes for each shard, and the name of a node
MESSAGE_BYTES = 32 * 1024
ENTRY_WORKERS = 200
ENTRY_BYTES = 9 * ENTRY_WORKERS + 16  # a number has at most nine bytes
NODE_LENGTH = 200
STREAM_ENTRIES = 10_000  # a last limit: entries beyond it are lost, also pending ones
STREAM_SECONDS = 3_600  # without a write or a read, the node counts as gone
FIELD = b"w"

Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NODE_LENGTH)]
Command = tuple[str | bytes | int, ...]


@attrs.frozen
class KeyNames:
    """The names of keys and channels; all begin with the prefix, so that clusters can share a
    server.
    """

    prefix: str

    @property
    def channel(self) -> str:
        return f"{self.prefix}:news"

    @property
    def streams(self) -> str:
        """The set of the nodes that have a stream."""
        return f"{self.prefix}:streams"

    def stream(self, node: str) -> str:
        return f"{self.prefix}:hints:{node}"


class NewsMessage(msgspec.Struct, tag="news", array_like=True, forbid_unknown_fields=True):
    node: Name
    woken: Annotated[list[Number], msgspec.Meta(max_length=MESSAGE_SHARDS)]
    committed: Annotated[dict[Number, Number], msgspec.Meta(max_length=MESSAGE_SHARDS)]


# Invalid UTF-8 and deep nesting raise errors of other types.
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_encode = msgspec.msgpack.Encoder().encode
_news = msgspec.msgpack.Decoder(NewsMessage)
_workers = msgspec.msgpack.Decoder(
    Annotated[list[Id], msgspec.Meta(min_length=1, max_length=ENTRY_WORKERS)]
)


def news(node: str, woken: Iterable[int], committed: Mapping[int, int]) -> bytes:
    """``woken``: shards to wake; ``committed``: the newest batch of each shard that committed."""
    return _encode(NewsMessage(node, list(woken), dict(committed)))


def read_news(data: object) -> NewsMessage | None:
    """Decode a message of the channel; None if it is foreign."""
    if not isinstance(data, bytes) or len(data) > MESSAGE_BYTES:
        return None
    try:
        return _news.decode(data)
    except _UNDECODABLE:
        return None


def entry(fields: object) -> list[WorkerId] | None:
    """Return the workers of a stream's entry from its fields and values; None if it is foreign."""
    match fields:
        case [name, bytes() as data] if name == FIELD and len(data) <= ENTRY_BYTES:
            try:
                return [WorkerId(number) for number in _workers.decode(data)]
            except _UNDECODABLE:
                return None
    return None


def node_name(data: object) -> str | None:
    """Return the node that a member of the set of streams names; None if it is foreign."""
    if not isinstance(data, bytes) or not 1 <= len(data) <= 4 * NODE_LENGTH:
        return None
    try:
        name = data.decode()
    except UnicodeDecodeError:
        return None
    return name if len(name) <= NODE_LENGTH else None


def hinting(names: KeyNames, node: str, workers: Collection[WorkerId]) -> list[Command]:
    """Commands that add entries for the workers to the node's stream, and keep it registered."""
    stream = names.stream(node)
    ids = list(workers)
    added: list[Command] = [
        ("XADD", stream, "MAXLEN", "~", STREAM_ENTRIES, "*", FIELD, _encode(part))
        for part in (
            ids[first : first + ENTRY_WORKERS] for first in range(0, len(ids), ENTRY_WORKERS)
        )
    ]
    return [*added, ("EXPIRE", stream, STREAM_SECONDS), ("SADD", names.streams, node)]

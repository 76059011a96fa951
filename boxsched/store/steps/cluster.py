"""The cluster: its shards, and all nodes that were ever started."""

from collections.abc import Sequence

from boxsched.model import WorkerId
from boxsched.protocol.workers import WorkerConnection
from boxsched.store.blocks import Row, Steps, load
from boxsched.store.mapping import mapper
from boxsched.store.records import NodeInfo, ShardHead
from boxsched.store.schema import SCHEMA_VERSION
from boxsched.store.steps import workers

_SQL = load("cluster.sql")

_shard = mapper(ShardHead, _SQL["shards"].returns)
_node = mapper(NodeInfo, _SQL["nodes"].returns)
_node_put = mapper(NodeInfo, _SQL["put_node"].returns)


def open_shards(count: int) -> Steps[list[ShardHead]]:
    yield _SQL["open_shards"].rows([(id_,) for id_ in range(1, count + 1)])
    return (yield from shards())


def shards() -> Steps[list[ShardHead]]:
    return [_shard(row) for row in (yield _SQL["shards"]())]


def put_node(name: str, url: str, version: str, requires: str) -> Steps[NodeInfo]:
    written: list[Row] = yield _SQL["put_node"](
        name=name, url=url, version=version, requires=requires, schema_known=SCHEMA_VERSION
    )
    return _node_put(written[0])


def nodes() -> Steps[list[NodeInfo]]:
    return [_node(row) for row in (yield _SQL["nodes"]())]


def forget_node(name: str) -> Steps[None]:
    yield _SQL["forget_node"](name=name)


def drop_old_nodes(away: Sequence[str], seconds: float) -> Steps[list[str]]:
    """Delete old nodes. A worker that still has Boxes or jobs stays."""
    found = yield _SQL["old_nodes"].rows([(name,) for name in away], seconds=seconds)
    if not found:
        return []
    for worker, number in (yield _SQL["own_workers"].rows(found)):
        yield from workers.forget_worker(WorkerConnection(WorkerId(worker), number))
    for (name,) in found:
        yield _SQL["forget_node"](name=name)
    return [name for (name,) in found]

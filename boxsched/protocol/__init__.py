"""The values that engine, gateway, workers, store and cluster exchange.

| module | between | what |
|---|---|---|
| `inbox` | any node -> the leader | durable commands: submissions, stops, reports of workers |
| `batches` | the leader -> the store | one fenced transaction: changed rows and events |
| `shards` | the store -> the leader | the shard as a leader loads it |
| `assignments` | the store -> a worker | what the worker should be running |
| `workers` | gateway, store and leader | a worker's connection, its Boxes and its beat |
| `wire` | an external worker and a node | JSON messages over a WebSocket |
| `timing` | all of them | seconds that they must agree on |
| `reasons` | the leader and the next one | reasons that say that a job waits for another attempt |
| `lock_keys` | the nodes of a cluster | the numbers of PostgreSQL's advisory locks |

Of boxsched, the package imports only ``errors``, ``states`` and ``model``.
"""

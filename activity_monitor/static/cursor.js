// An event's id is "shard.batch.n", in commit order within its shard.

/** Whether event `a` surely or possibly came after `b`; an id that is missing came before all. */
export function isAfter(a, b) {
  if (!a) return false;
  if (!b) return true;
  const [shardA, batchA, nA] = a.split(".").map(Number);
  const [shardB, batchB, nB] = b.split(".").map(Number);
  if (shardA !== shardB) return true; // not comparable: rows only move forward, so no harm
  return batchA !== batchB ? batchA > batchB : nA > nB;
}

// Positions in the history. An event's id, like the cursor of /activity, consists of "shard.batch.n"
// for every shard, joined by "+". Events are ordered only within a shard.

const START = [0, 0];

/** The position before all events. */
export const NOWHERE = new Map();

/** Parse an id into {shard: [batch, n]}. */
export function placeOf(id) {
  const place = new Map();
  for (const mark of id.split("+")) {
    const [shard, batch, n] = mark.split(".").map(Number);
    place.set(shard, [batch, n]);
  }
  return place;
}

/** Whether position `a` is later than position `b` in at least one shard. */
export function isAfter(a, b) {
  for (const [shard, [batch, n]] of a) {
    const [otherBatch, otherN] = b.get(shard) ?? START;
    if (batch !== otherBatch ? batch > otherBatch : n > otherN) return true;
  }
  return false;
}

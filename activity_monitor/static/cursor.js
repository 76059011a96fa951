// Places in the history. An event's id, like the cursor of /activity, is "shard.batch.n" of every
// shard, joined by "+": all that had happened when it was written. Order is within a shard only.

const START = [0, 0];

/** Before everything. */
export const NOWHERE = new Map();

/** An id as {shard: [batch, n]}. */
export function placeOf(id) {
  const place = new Map();
  for (const mark of id.split("+")) {
    const [shard, batch, n] = mark.split(".").map(Number);
    place.set(shard, [batch, n]);
  }
  return place;
}

/** Whether place `a` is behind something, in some shard, that place `b` is not behind. */
export function isAfter(a, b) {
  for (const [shard, [batch, n]] of a) {
    const [otherBatch, otherN] = b.get(shard) ?? START;
    if (batch !== otherBatch ? batch > otherBatch : n > otherN) return true;
  }
  return false;
}

// The rows of one list in order. Adding and removing rows is O(1); they are sorted when needed.

export class SortedRows {
  #rows = [];
  #added = [];
  #stale = false;
  #compare;

  constructor(compare) {
    this.#compare = compare;
    this.size = 0;
  }

  /** Add a row. The row stores its list, so that removing it is O(1). */
  add(row) {
    row.home = this;
    this.#added.push(row);
    this.size += 1;
  }

  remove(row) {
    row.home = null;
    this.#stale = true;
    this.size -= 1;
  }

  /** The row's place among the others has changed: O(n). */
  move(row) {
    this.remove(row);
    this.inOrder(); // without it
    this.add(row);
  }

  /** Replace all rows: `rows` keep their order, `others` are inserted by comparison. */
  reset(rows, others) {
    for (const row of rows) row.home = this;
    for (const row of others) row.home = this;
    this.#rows = rows;
    this.#added = others;
    this.#stale = false;
    this.size = rows.length + others.length;
  }

  /** The rows in order: O(n) after any number of changes, otherwise O(1). */
  inOrder() {
    if (this.#stale) {
      this.#rows = this.#rows.filter((row) => row.home === this);
      this.#added = this.#added.filter((row) => row.home === this);
      this.#stale = false;
    }
    if (this.#added.length) {
      this.#rows = merged(this.#rows, this.#added.sort(this.#compare), this.#compare);
      this.#added = [];
    }
    return this.#rows;
  }
}

function merged(rows, added, compare) {
  const last = rows.at(-1);
  if (!last || compare(last, added[0]) <= 0) return rows.concat(added);
  const result = [];
  let next = 0;
  for (const row of rows) {
    while (next < added.length && compare(added[next], row) < 0) result.push(added[next++]);
    result.push(row);
  }
  return result.concat(added.slice(next));
}

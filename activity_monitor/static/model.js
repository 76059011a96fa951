// The page's data: rows by id, in four lists, and the Boxes. No DOM here.
//
// A row's state only moves forward, so events and answers may arrive late, twice, or in another order.
// `row.version` grows with each change; the views compare it.

import { NOWHERE, isAfter, placeOf } from "./cursor.js";
import { SortedRows } from "./sorted.js";
import { kindOf, stateOf, titleOf } from "./words.js";

export const LISTS = ["upcoming", "blocked", "running", "finished"];
const FINISHED_KEPT = 50;
const ENDED = new Set(["passed", "failed"]); // results that show the health of a branch

const ORDER = { registered: 0, queued: 1, running: 2, stopping: 3, finished: 4 };
const HOME = {
  registered: "upcoming", queued: "blocked", running: "running", stopping: "running", finished: "finished",
};
const STATE_AFTER = {
  "workload.registered": "registered", "workload.queued": "queued", "workload.started": "running",
  "workload.stopping": "stopping", "workload.finished": "finished",
};
const FIELDS = [
  "project", "number", "kind", "branch", "tag", "server", "message", "author", "submitted_by", "commit", "result",
  "compare_url", "event_at", "build", "rollback", "rebuild_of", "from_fork", "target_branch",
  "priority", "boxes", "created_at", "queued_at", "started_at", "finished_at", "reason",
  "spared", "priority_by", "priority_note", "flaky",
];

const byId = (a, b) => a.id.length - b.id.length || (a.id < b.id ? -1 : 1);
const byText = (a, b) => (a === b ? 0 : a < b ? -1 : 1);
const ORDER_OF = {
  upcoming: byId,
  blocked: (a, b) => b.priority - a.priority || byText(a.created_at, b.created_at) || byId(a, b),
  running: (a, b) => byText(a.started_at, b.started_at) || byId(a, b),
  finished: (a, b) => byText(b.finished_at, a.finished_at) || byId(b, a),
};

export class Model {
  rows = new Map();
  /** `total` and `busy` include `away` Boxes, whose workers get no jobs: they are not connected, draining, or in trouble. */
  capacity = { total: 0, busy: 0, away: 0, away_busy: 0 };
  /** The id of the row that is open or will be opened; it is never dropped from the lists. */
  pinned = null;
  #lists = {};
  #capacitySeen = NOWHERE;

  constructor() {
    for (const name of LISTS) this.#lists[name] = new SortedRows(ORDER_OF[name]);
  }

  inOrder(name) {
    if (name === "finished") this.#forgetOld();
    return this.#lists[name].inOrder();
  }

  size(name) {
    return this.#lists[name].size;
  }

  get waiting() {
    return this.size("upcoming") + this.size("blocked");
  }

  /** Apply one event: O(1). Returns false if the page must request the whole activity again. */
  apply(id, event) {
    const place = placeOf(id);
    if (event.capacity) this.#setCapacity(event.capacity, place);
    const state = STATE_AFTER[event.type];
    const known = this.rows.get(event.workload);
    if ((event.type === "workload.commit" || event.type === "workload.planned") && known) {
      if (take(known, event)) known.version += 1;
    }
    if (event.type === "workload.prioritized" && known) this.#prioritize(known, event.priority);
    if (!state) return true;
    const row = known ?? this.#newRow(event.workload);
    if (known && ORDER[row.state] >= ORDER[state]) return true;
    take(row, event);
    row.state = state;
    row.why = null;
    row.seen = place;
    row.asked = row.asked && state !== "finished";
    row.version += 1;
    this.#place(row);
    return Boolean(known) || state === "registered";
  }

  /** Apply an answer of /activity: its order, its reasons, and data that is not in events. */
  replace(activity) {
    const answered = new Map();
    const place = placeOf(activity.cursor);
    for (const name of LISTS) {
      for (const data of activity[name] ?? []) answered.set(data.id, this.#learn(data, place));
    }
    const rest = Object.fromEntries(LISTS.map((name) => [name, []]));
    for (const row of this.rows.values()) {
      if (answered.has(row.id)) continue;
      const gone = row.state !== "finished" && !isAfter(row.seen, place);
      if (!gone) rest[HOME[row.state]].push(row);
      else this.#miss(row);
    }
    for (const name of LISTS) this.#reset(name, [...answered.values()], rest[name]);
    if (!isAfter(this.#capacitySeen, place)) this.#setCapacity(activity.boxes, place);
  }

  /** Forget all rows: the history has changed, for example after a restored backup. */
  forget() {
    this.#capacitySeen = NOWHERE;
    for (const row of this.rows.values()) {
      for (const field of FIELDS) row[field] = undefined;
      Object.assign(row, { state: null, seen: NOWHERE, asked: false, sought: undefined, missed: 1 });
    }
  }

  /** Apply the service's current data of one workload: of an open row, or requested by its id. */
  learn(data) {
    const known = this.rows.get(data.id);
    const why = known?.state === data.state ? known.why : null;
    this.#place(this.#learn({ ...data, why }, NOWHERE));
  }

  /** Forget a row that exists only because it was requested by its id. */
  drop(row) {
    row.home?.remove(row);
    row.home = null;
    this.rows.delete(row.id);
  }

  /** The number of branches, tags and servers whose last workload failed, as far as known. */
  failed() {
    const last = new Map();
    for (const row of this.inOrder("finished")) {
      const lane = row.server ? `server ${row.server}` : row.tag ? `tag ${row.tag}` : `branch ${row.branch}`;
      const key = JSON.stringify([row.project, lane]);
      if (row.kind !== "ssh" && ENDED.has(row.result) && !last.has(key)) last.set(key, row.result);
    }
    return [...last.values()].filter((result) => result === "failed").length;
  }

  /** Show a stop that was requested on this page at once, before it takes effect. */
  stopAsked(row) {
    row.asked = true;
    row.version += 1;
  }

  /** Take a row that is missing in an answer out of the lists: it has finished. Its event may follow. */
  #miss(row) {
    row.home = null;
    row.missed += 1;
    if (row.missed > 1) this.rows.delete(row.id);
  }

  #reset(name, answered, rest) {
    const here = answered.filter((row) => HOME[row.state] === name);
    if (name !== "blocked") here.sort(ORDER_OF[name]); // the service sorts the queue
    this.#lists[name].reset(here, rest);
  }

  /** Set another priority, and with it another place among the waiting rows. */
  #prioritize(row, priority) {
    row.priority = priority;
    row.version += 1;
    row.home?.move(row);
  }

  #newRow(id) {
    const row = { id, state: null, why: null, asked: false, version: 0, seen: NOWHERE, home: null, missed: 0 };
    this.rows.set(id, row);
    return row;
  }

  #learn(data, place) {
    const row = this.rows.get(data.id) ?? this.#newRow(data.id);
    const newer = row.state !== null && ORDER[row.state] > ORDER[data.state];
    if (newer) {
      fill(row, data);
      return row;
    }
    const why = data.why ?? null;
    row.missed = 0;
    if (take(row, data) || row.state !== data.state || row.why !== why) row.version += 1;
    row.state = data.state;
    row.why = why;
    if (isAfter(place, row.seen)) row.seen = place;
    return row;
  }

  #place(row) {
    const home = this.#lists[HOME[row.state]];
    if (row.home === home) return;
    if (row.home) row.home.remove(row);
    home.add(row);
  }

  #setCapacity({ total, busy, away = 0, away_busy = 0 }, place) {
    this.capacity = { total, busy, away, away_busy };
    this.#capacitySeen = place;
  }

  #forgetOld() {
    const list = this.#lists.finished;
    if (list.size <= FINISHED_KEPT) return;
    for (const row of list.inOrder().slice(FINISHED_KEPT)) {
      if (row.id === this.pinned) continue;
      list.remove(row);
      this.rows.delete(row.id);
    }
  }
}

/** Copy the fields of `data`; return whether one changed. */
function take(row, data) {
  let changed = false;
  for (const field of FIELDS) {
    if (data[field] === undefined || data[field] === row[field]) continue;
    row[field] = data[field];
    row.sought = undefined;
    changed = true;
  }
  return changed;
}

/** Copy only missing fields, because the row is newer than `data`. */
function fill(row, data) {
  for (const field of FIELDS) {
    if (row[field] !== undefined || data[field] === undefined) continue;
    row[field] = data[field];
    row.sought = undefined;
    row.version += 1;
  }
}

/** The row's text for the filter, in lower case, without its state, which changes separately. */
export function sought(row) {
  row.sought ??= [
    row.project, row.branch, row.tag, row.server, `#${row.number}`, kindOf(row), titleOf(row), row.author,
  ].filter(Boolean).join("\n").toLowerCase();
  return `${row.sought}\n${stateOf(row)}`;
}

// The nodes and workers: which are alive, which lead, and what runs on them. While it is open, it
// requests them again after events that may concern them, and periodically, because there is no
// event for a node that has died.

import { Away, Refused, SignedOut, get } from "./api.js";
import { Asking } from "./asking.js";
import { DrainDialog, endDrain } from "./drain.js";
import { getGhosts, ghostRow } from "./ghosts.js";
import { icon } from "./icons.js";
import { Refresher } from "./refresh.js";
import { may, onlyWith } from "./rights.js";
import { amount, count, make, put } from "./text.js";
import { exactly, moment, since } from "./times.js";

const AGAIN_MS = 5000;
const PROBLEM_CHARACTERS = 60;
const NOTE_CHARACTERS = 80;
const ENFORCED_CHARACTERS = 300; // what is not enforced comes last
const ROWS_AT_MOST = 500;
const CHANGED_BY = /^(worker\.|ghost\.|workload\.(started|finished)$|job\.(unknown|restored)$)/;
const MARKS = {
  alive: "passed", away: "canceled",
  connected: "passed", draining: "stopping", incompatible: "blocked", disconnected: "canceled",
};
const RUNS = [["builds", "build"], ["deploys", "deploy"], ["ssh_sessions", "SSH session"]];
const STANDING = ["connected", "incompatible", "draining", "disconnected"];

const byId = (id) => document.getElementById(id);
const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });

export class FleetView {
  #dialog = byId("fleet-dialog");
  #problem = byId("fleet-problem");
  #nodes = new Table(byId("fleet-nodes"), ["Node", "State", "Leads", "Address", "Version", "Started"]);
  #workers = new Table(byId("fleet-workers"), ["Worker", "State", "Boxes", "Runs", "Actions", "Address"]);
  #ghosts = new Table(byId("fleet-ghosts"), ["Attempt", "Worker", "State", "Found", "Actions"]);
  #refresher = new Refresher(() => this.#load());
  #timer = 0;
  #onSignedOut;
  #asking = new Asking({ onChanged: () => this.refresh(), onSignedOut: () => this.#signedOut() });
  #drain = new DrainDialog(this.#asking);

  /** onSignedOut(): the session has ended. */
  constructor({ onSignedOut }) {
    this.#onSignedOut = onSignedOut;
    byId("fleet-button").addEventListener("click", () => this.open());
    byId("fleet-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#closed());
  }

  open() {
    if (this.#dialog.open) return;
    this.#dialog.showModal();
    this.#refresher.now();
    this.#timer = setInterval(() => { if (!document.hidden) this.#refresher.ask(); }, AGAIN_MS);
  }

  /** Request the nodes and workers again. */
  refresh() {
    if (this.#dialog.open) this.#refresher.now();
  }

  /** Take note of an event. */
  onEvent(event) {
    if (this.#dialog.open && CHANGED_BY.test(event.type)) this.#refresher.ask();
  }

  #closed() {
    clearInterval(this.#timer);
    this.#refresher.stop();
  }

  async #load() {
    try {
      const [nodes, workers, ghosts] = await Promise.all([getNodes(), get("/workers"), getGhosts()]);
      put(this.#problem, "");
      this.#showNodes(nodes);
      this.#showWorkers(workers.body.workers);
      this.#showGhosts(ghosts);
    } catch (error) {
      if (error instanceof SignedOut) {
        this.#signedOut();
      } else if (error instanceof Away || error instanceof Refused) {
        put(this.#problem, `${error.message} Trying again …`);
      } else {
        throw error;
      }
    }
  }

  #signedOut() {
    this.#dialog.close();
    this.#onSignedOut();
  }

  /** What one can do with a worker. */
  #actionsOn(worker) {
    if (worker.drain) {
      const resume = async (control) => put(this.#problem, await endDrain(worker, this.#asking, control));
      return [{ label: "Resume", name: `Resume ${worker.name}`, right: "fleet", run: resume }];
    }
    if (worker.state === "disconnected") return [];
    return [{ label: "Drain …", name: `Drain ${worker.name}`, right: "fleet", run: () => this.#drain.ask(worker) }];
  }

  #showNodes(nodes) {
    byId("fleet-nodes-part").hidden = !nodes.length;
    const alive = nodes.filter((node) => node.alive).length;
    put(byId("fleet-nodes-count"), `${amount(alive)} of ${amount(nodes.length)} alive`);
    this.#nodes.show(nodes.toSorted((a, b) => b.alive - a.alive || byName(a, b)).map(nodeRow));
  }

  #showWorkers(workers) {
    const there = workers.filter((worker) => worker.state === "connected").length;
    put(byId("fleet-workers-count"), `${amount(there)} of ${amount(workers.length)} connected`);
    const order = (worker) => (STANDING.indexOf(worker.state) + STANDING.length + 1) % (STANDING.length + 1);
    this.#workers.show(workers.toSorted((a, b) => order(a) - order(b) || byName(a, b))
      .map((worker) => workerRow(worker, this.#actionsOn(worker))));
  }

  #showGhosts(ghosts) {
    byId("fleet-ghosts-part").hidden = !ghosts.length;
    put(byId("fleet-ghosts-count"), `${amount(ghosts.length)}: workers hold them, and the scheduler does not know them as theirs`);
    const onProblem = (text) => put(this.#problem, text);
    this.#ghosts.show(ghosts.map((ghost) => ghostRow(ghost, this.#asking, onProblem)));
  }
}

/** All nodes; none for a caller without the right: they belong to no project. */
async function getNodes() {
  return may("monitor") ? (await get("/nodes")).body.nodes : [];
}

/** Rows of cells {text, mark?, since?, note?, title?, look?, actions?}; the first names the row.
    A narrow page shows cells below one another, each with the name of its column. Browsers forget what
    a table is when its style is not one, so the roles are said. */
class Table {
  #names;
  #body = make("tbody");
  #more = make("p", "fleet-more");
  #shown = "";

  constructor(table, names) {
    this.#names = names;
    const head = part("tr", "row", "", ...names.map((name) => {
      const cell = part("th", "columnheader", "", name);
      cell.scope = "col";
      return cell;
    }));
    table.setAttribute("role", "table");
    this.#body.setAttribute("role", "rowgroup");
    table.append(part("thead", "rowgroup", "", head), this.#body);
    table.after(this.#more);
  }

  show(rows) {
    const text = JSON.stringify(rows);
    if (text === this.#shown) return; // keep the user's text selection
    this.#shown = text;
    const focused = this.#body.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : "";
    this.#body.replaceChildren(...rows.slice(0, ROWS_AT_MOST).map((cells) => rowOf(cells, this.#names)));
    if (focused) [...this.#body.querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === focused)?.focus();
    const left = rows.length - ROWS_AT_MOST;
    this.#more.hidden = left <= 0;
    put(this.#more, `and ${amount(left)} more`);
  }
}

function part(tag, role, look, ...children) {
  const node = make(tag, look, ...children);
  node.setAttribute("role", role);
  return node;
}

function rowOf(cells, names) {
  return part("tr", "row", "", ...cells.map((cell, at) => {
    const said = make("bdi");
    put(said, cell.text);
    const node = at ? part("td", "cell", cell.look ?? "") : part("th", "rowheader", cell.look ?? "");
    if (!at) node.scope = "row";
    else if (names[at]) node.dataset.name = names[at];
    if (cell.mark) {
      const mark = make("span", "mark", icon(cell.mark));
      mark.dataset.mark = cell.mark;
      node.append(mark);
    }
    node.append(said);
    if (cell.since) node.append(" ", make("span", "since", cell.since));
    for (const note of [cell.note, ...(cell.notes ?? [])].filter(Boolean)) node.append(make("span", "note", note));
    if (cell.title) node.title = cell.title;
    if (cell.actions) node.append(...cell.actions.map(actionButton));
    return node;
  }));
}

function actionButton({ label, name, right, run }) {
  const button = onlyWith(right, make("button", "quiet", label));
  button.type = "button";
  button.setAttribute("aria-label", name);
  button.addEventListener("click", () => run(button));
  return button;
}

function nodeRow(node) {
  return [
    { text: node.name, note: node.me ? "this one" : "" },
    state(node.alive ? "alive" : "away", node.alive ? null : node.seen_at),
    { text: leads(node.shards) },
    { text: node.url || "–", look: "far" },
    { text: node.version },
    { text: moment(node.started_at), title: exactly(node.started_at), look: "number" },
  ];
}

function leads(shards) {
  if (!shards.length) return "–";
  return `${shards.length === 1 ? "shard" : "shards"} ${shards.join(", ")}`;
}

function workerRow(worker, actions) {
  const runs = RUNS.filter(([field]) => worker[field] > 0)
    .map(([field, one]) => count(worker[field], one, `${one}s`));
  return [
    { text: worker.name, title: worker.enforced && `its jobs are ${worker.enforced}` },
    withNotes(workerState(worker), worker.notes ?? []),
    { text: amount(worker.boxes), look: "number" },
    { text: runs.join(", ") || "–" },
    { text: "", actions },
    { text: worker.address || "–", look: "far" },
  ];
}

/** The cell with what an operator should look at on the worker. */
function withNotes(cell, notes) {
  if (!notes.length) return cell;
  return { ...cell, notes: notes.map((note) => short(note, NOTE_CHARACTERS)), title: [cell.title, ...notes].filter(Boolean).join("\n") };
}

/** The text, cut with an ellipsis between words if it is longer. */
function short(text, characters) {
  if (text.length <= characters) return text;
  return `${text.slice(0, characters - 1).replace(/\s+\S*$/, "")} …`;
}

/** The state of a worker; one that cannot begin jobs has its own state. */
function workerState(worker) {
  const cell = { ...state(worker.state, worker.state === "disconnected" ? worker.seen_at : null), look: "wraps" };
  if (worker.drain) {
    const { by, note, done } = worker.drain;
    const why = note ? `by ${by}: ${note}` : `by ${by}`;
    return { ...cell, note: short(`${done ? "drained" : "draining"} ${why}`, NOTE_CHARACTERS), title: why };
  }
  if (worker.differs?.length) {
    const differs = worker.differs.join("; ");
    return { ...cell, note: short(`gets no new jobs: ${differs}`, NOTE_CHARACTERS), title: differs };
  }
  if (!worker.problem) return worker.enforced ? { ...cell, note: short(`jobs ${worker.enforced}`, ENFORCED_CHARACTERS) } : cell;
  const note = `cannot begin jobs: ${short(worker.problem, PROBLEM_CHARACTERS)}`;
  return { ...cell, mark: "unknown", note, title: worker.problem };
}

/** `seen`: the last heartbeat of an absent one. */
function state(word, seen) {
  const cell = { text: word, mark: Object.hasOwn(MARKS, word) ? MARKS[word] : "unknown" };
  return seen ? { ...cell, since: `for ${since(seen)}`, title: `last seen ${exactly(seen)}` } : cell;
}

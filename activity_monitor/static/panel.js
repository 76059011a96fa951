// The panel below an open row: why it waits, its facts, its jobs, and one job's log.

import { Away, Refused, SignedOut, get } from "./api.js";
import { ExplanationView } from "./explanation.js";
import { JobsView } from "./jobs.js";
import { LogView } from "./log.js";
import { Refresher } from "./refresh.js";
import { firstLine, make, put } from "./text.js";
import { linkTo } from "./things.js";
import { exactly, moment } from "./times.js";
import { isAway } from "./words.js";

const JOBS_LEAST_MS = 1000;
const FACTS = [
  ["Pushed", "event_at"], ["Created", "created_at"], ["Left its lane", "queued_at"], ["Started", "started_at"], ["Finished", "finished_at"],
];

export class Panel {
  #row;
  #on;
  #closed = false;
  #log = null;
  #version = -1;
  #chosen = false;
  #whyCame = false;
  #jobsCame = false;
  #ssh = null;
  #loadJobs = new Refresher(() => this.#fetchJobs(), JOBS_LEAST_MS);
  #loadWhy = new Refresher(() => this.#fetchWhy());

  /**
   * onSignedOut(): the session has ended. onWorkload(data): the service's current data arrived.
   * onAnswer(): the content of `answer` has changed.
   */
  constructor(row, on) {
    this.#row = row;
    this.#on = on;
    this.message = make("pre", "message");
    this.message.tabIndex = 0;
    this.facts = make("dl", "facts");
    this.why = new ExplanationView(() => row);
    this.jobs = new JobsView((job) => this.#showLog(job), row.boxes);
    this.problem = make("p", "problem");
    this.problem.setAttribute("role", "status");
    this.logPlace = make("div", "log-place");
    this.element = make("div", "panel", this.why.element, this.problem, this.facts, this.jobs.element, this.logPlace,
      this.message);
    this.element.id = `panel-${row.id}`;
    this.update();
    this.#loadJobs.now();
  }

  /** The most important part: why it waits; otherwise its jobs and their output. */
  get answer() {
    if (!this.why.element.hidden) return this.why.element;
    return this.#log ? this.logPlace : this.jobs.element;
  }

  /** Update the panel: the row, or what it waits for, has changed. */
  update() {
    const row = this.#row;
    const waits = row.state === "registered" || row.state === "queued";
    this.why.element.hidden = !waits;
    if (waits) this.#loadWhy.ask();
    if (this.#version === row.version) return;
    this.#version = row.version;
    this.message.hidden = !row.message || row.message.trim() === firstLine(row.message);
    put(this.message, row.message);
    this.#showFacts(row);
    this.#loadJobs.ask();
  }

  /** Update the jobs: one of them has changed. */
  jobChanged() {
    this.#loadJobs.ask();
  }

  tick() {
    this.jobs.tick();
    if (!this.why.element.hidden) this.why.tick();
  }

  /** Call this after signing in again. */
  resume() {
    this.#loadJobs.now();
    if (!this.why.element.hidden) this.#loadWhy.now();
  }

  close() {
    this.#closed = true;
    this.#loadJobs.stop();
    this.#loadWhy.stop();
    this.#log?.close();
    this.element.remove();
  }

  #showFacts(row) {
    const facts = [
      ["Name", `${row.project}#${row.number}`, "as the command line takes it"], ["Id", row.id, ""],
      ["Commit", row.commit?.slice(0, 12), row.commit], ["Author", row.author, ""],
      ["Submitted by", row.submitted_by, ""], ["Priority", priorityOf(row), ""],
      ["Target branch", row.target_branch, "the branch of its change request"],
      ["From a fork", row.from_fork && "yes: its jobs get no secrets", ""],
      ["Rollback", row.rollback && "yes: to an older build than was live", ""],
      ...entering(row.id, this.#ssh),
      ["Spared", row.spared && "newer builds do not cancel or stop it", "spare_after"],
    ];
    for (const [name, field] of FACTS) facts.push([name, row[field] && moment(row[field]), exactly(row[field])]);
    this.facts.replaceChildren(...facts.filter(([, value]) => value).map(([name, value, title]) => {
      const said = make("dd");
      put(said, value);
      said.title = title;
      return make("div", "", make("dt", "", name), said);
    }), ...linksOf("Build", row.build), ...linksOf("Rebuild of", row.rebuild_of), ...changesOf(row));
  }

  async #fetchJobs() {
    const body = await this.#ask(`/workloads/${encodeURIComponent(this.#row.id)}`, this.problem);
    if (!body) return;
    this.#on.onWorkload(body);
    put(this.problem, "");
    if (this.#ssh?.host_key !== body.ssh?.host_key) {
      const fingerprint = body.ssh && await fingerprintOf(body.ssh.host_key);
      if (this.#closed) return;
      this.#ssh = body.ssh && { ...body.ssh, fingerprint };
      this.#showFacts(this.#row);
    }
    const jobs = body.jobs ?? [];
    this.jobs.show(jobs, isAway(this.#row), body.reason);
    const only = jobs.length === 1 && jobs[0].started_at ? jobs[0] : null;
    if (only && !this.#chosen) this.#showLog(only); // show the log of the only job
    if (!this.#jobsCame && this.why.element.hidden) this.#on.onAnswer();
    this.#jobsCame = true;
  }

  async #fetchWhy() {
    const body = await this.#ask(`/workloads/${encodeURIComponent(this.#row.id)}/explanation`, null);
    if (!body) return;
    this.why.show(body);
    if (!this.#whyCame) this.#on.onAnswer();
    this.#whyCame = true;
  }

  async #ask(path, problem) {
    try {
      const { body } = await get(path);
      return this.#closed ? null : body;
    } catch (error) {
      if (error instanceof SignedOut) this.#on.onSignedOut();
      else if (!(error instanceof Away || error instanceof Refused)) throw error;
      else if (problem) put(problem, error.message);
      else this.why.fail(error.message);
      return null;
    }
  }

  #showLog(job) {
    this.#chosen = true;
    this.#log?.close();
    this.#log = job ? new LogView(job, this.#on) : null;
    this.logPlace.replaceChildren(...(this.#log ? [this.#log.element] : []));
    this.jobs.showsLog(job?.id ?? null);
  }
}

/** How to enter an open SSH session: facts with command lines. */
function entering(id, ssh) {
  if (!ssh) return [];
  return [
    ["Enter", `ssh -o ProxyCommand='boxsched ssh --proxy ${id}' ${ssh.user}@${id}`, "through this service"],
    ["Directly", ssh.host && `ssh -p ${ssh.port} ${ssh.user}@${ssh.host}`, "where its worker can be reached"],
    ["Fingerprint", ssh.fingerprint, "what ssh shows of the host key; accept no other"],
    ["Host key", ssh.host_key, "accept no other"],
  ];
}

/** The fingerprint of a host key as ssh shows it; null where the browser computes no hashes (http). */
async function fingerprintOf(key) {
  if (!globalThis.crypto?.subtle) return null;
  const bytes = Uint8Array.from(atob(key.split(" ")[1]), (char) => char.charCodeAt(0));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return `SHA256:${btoa(String.fromCharCode(...digest)).replace(/=+$/, "")}`;
}

/** A link to the code host's page of the changes. Its address is from outside: only http and https are links. */
function linksOf(name, id) {
  return id ? [make("div", "", make("dt", "", name), make("dd", "", linkTo(id, id)))] : [];
}

function changesOf(row) {
  if (!/^https?:\/\//.test(row.compare_url ?? "")) return [];
  const link = make("a", "", "at the code host");
  link.href = row.compare_url;
  link.rel = "noreferrer noopener";
  link.target = "_blank";
  return [make("div", "", make("dt", "", "Changes"), make("dd", "", link))];
}

/** Its priority, and who gave it another one than it was submitted with. */
function priorityOf({ priority, priority_by: by, priority_note: note }) {
  if (!by) return priority;
  return note ? `${priority}, by ${by}: ${note}` : `${priority}, by ${by}`;
}

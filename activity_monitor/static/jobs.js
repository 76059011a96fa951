// The jobs of an open row: state, Box, exit status, duration, and which one's log is shown.

import { icon } from "./icons.js";
import { isResolvable, resolveButton } from "./resolve.js";
import { amount, make, plain, put } from "./text.js";
import { span } from "./times.js";

const STEP = 200;
const MARKS = { waiting: "upcoming", assigned: "blocked", running: "running", stopping: "stopping", unknown: "unknown" };

export class JobsView {
  #rows = new Map();
  #jobs = [];
  #away = false;
  #reason = null;
  #limit = STEP;
  #onLog;
  #shownLog = null;

  /**
   * onLog(job or null): the user opens a job's log, or closes it. `expected`: the number of rows for
   * which space is reserved until the jobs are known.
   */
  constructor(onLog, expected) {
    this.#onLog = onLog;
    this.body = make("tbody");
    this.caption = make("caption", "unseen", "Jobs");
    const head = make("tr", "", ...["Job", "State", "Box", "Time", "Log"].map((name) => {
      const cell = make("th", "", name);
      cell.scope = "col";
      return cell;
    }));
    this.table = make("table", "jobs", this.caption, make("thead", "", head), this.body);
    this.more = make("button", "more");
    this.more.type = "button";
    this.more.addEventListener("click", () => {
      this.#limit += STEP;
      this.show(this.#jobs, this.#away, this.#reason);
    });
    this.more.hidden = true;
    this.element = make("section", "jobs-section to-come", make("h3", "", "Jobs"), this.table, this.more);
    this.element.style.setProperty("--jobs", Math.min(expected ?? 1, STEP));
  }

  /** `away`: the worker of the jobs that have not ended does not answer. `reason`: the workload's, which
      its row shows; jobs that have the same one do not repeat it. */
  show(jobs, away, reason) {
    this.#jobs = jobs;
    this.#away = away;
    this.#reason = reason;
    this.element.classList.remove("to-come");
    for (const job of jobs.slice(0, this.#limit)) {
      if (!this.#rows.has(job.id)) this.#add(job);
      this.#rows.get(job.id).update(job, away, reason);
    }
    const left = jobs.length - Math.min(jobs.length, this.#limit);
    this.more.hidden = left <= 0;
    this.more.textContent = `and ${amount(left)} more: show ${amount(Math.min(left, STEP))}`;
  }

  tick() {
    for (const row of this.#rows.values()) row.tick();
  }

  /** Mark the job whose log is shown; null for none. */
  showsLog(id) {
    this.#shownLog = id;
    for (const row of this.#rows.values()) row.showsLog(id);
  }

  #add(job) {
    const row = new JobRow((asked) => this.#onLog(asked.id === this.#shownLog ? null : asked));
    row.showsLog(this.#shownLog);
    this.#rows.set(job.id, row);
    this.body.append(row.element);
  }
}

class JobRow {
  #job = null;
  #shown = null;

  constructor(onLog) {
    this.name = make("bdi");
    this.mark = make("span", "mark");
    this.state = make("span");
    this.box = make("td", "number");
    this.time = make("td", "number");
    this.log = make("button", "quiet", "Log");
    this.log.type = "button";
    this.log.addEventListener("click", () => onLog(this.#job));
    const name = make("th", "job-name", this.name);
    name.scope = "row";
    this.resolve = resolveButton(() => this.#job);
    this.element = make("tr", "", name, make("td", "job-state", this.mark, this.state, this.resolve), this.box, this.time,
      make("td", "job-log", this.log));
  }

  update(job, away, reason) {
    this.#job = job;
    put(this.name, job.name);
    const mark = job.state === "finished" ? job.result ?? "unknown" : MARKS[job.state] ?? "unknown";
    if (mark !== this.#shown) this.mark.replaceChildren(icon(mark));
    this.#shown = mark;
    this.element.dataset.mark = mark;
    put(this.state, said(job, reason));
    put(this.box, job.box ?? "–");
    this.log.disabled = job.state === "waiting" || (job.state === "finished" && !job.started_at);
    this.log.setAttribute("aria-label", plain(`Log of ${job.name}`));
    this.resolve.hidden = !isResolvable(job, away);
    this.resolve.setAttribute("aria-label", plain(`Resolve ${job.name}`));
    this.tick();
  }

  tick() {
    const job = this.#job;
    put(this.time, job.started_at ? span(job.started_at, job.finished_at) : "–");
  }

  showsLog(id) {
    const mine = this.#job?.id === id && id !== null;
    this.log.setAttribute("aria-expanded", String(mine));
    this.element.classList.toggle("shows-log", mine);
  }
}

function said(job, reason) {
  const parts = [job.state === "finished" ? job.result ?? "finished" : job.state];
  if (job.state === "unknown") parts.push("its worker is away");
  if (job.result !== "passed") {
    const status = Number.isInteger(job.exit_status) ? `exit status ${job.exit_status}` : null;
    const why = job.reason ?? status;
    if (why && why !== reason) parts.push(why);
  }
  if (job.flaky) parts.push("flaky");
  if (job.attempt > 1) parts.push(`attempt ${job.attempt}`);
  return parts.join(" · ");
}

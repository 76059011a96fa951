// What became of a job whose worker is away? A person says it, and why.

import { Away, Refused, SignedOut, get, newKey, post } from "./api.js";
import { Refresher } from "./refresh.js";
import { make, put } from "./text.js";
import { isAway } from "./words.js";

const byId = (id) => document.getElementById(id);

/** Whether nobody but a person can say what became of the job. `away`: nothing is heard from its worker. */
export function isResolvable(job, away) {
  return job.state === "unknown" || (away && job.state === "stopping");
}

/** The button of a job; it sends the event "resolve-job" upward. */
export function resolveButton(jobOf) {
  const button = make("button", "quiet", "Resolve …");
  button.type = "button";
  button.hidden = true;
  button.addEventListener("click", () => {
    button.dispatchEvent(new CustomEvent("resolve-job", { bubbles: true, detail: jobOf() }));
  });
  return button;
}

export class ResolveDialog {
  #dialog = byId("resolve-dialog");
  #form = byId("resolve-form");
  #confirm = byId("resolve-confirm");
  #problem = byId("resolve-problem");
  #leave = byId("resolve-leave");
  #row = null;
  #job = null;
  #key = "";
  #refresher = new Refresher(() => this.#look());
  #onSignedOut;

  constructor(onSignedOut) {
    this.#onSignedOut = onSignedOut;
    this.#leave.addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#refresher.stop());
    this.#form.addEventListener("input", () => { this.#key = newKey(); }); // another wish
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#resolve();
    });
  }

  ask(row, job) {
    this.#row = row;
    this.#job = job;
    this.#key = newKey();
    this.#form.reset();
    put(byId("resolve-title"), `What became of ${job.name}?`);
    put(this.#problem, "");
    put(this.#leave, "Leave it");
    for (const part of this.#parts) part.hidden = false;
    this.#confirm.disabled = false;
    this.#dialog.showModal();
  }

  /** Something has changed: the job's worker may be back, or the job may have ended. */
  update() {
    if (this.#dialog.open) this.#refresher.ask();
  }

  /** What belongs to the question only. */
  get #parts() {
    return [byId("resolve-text"), this.#confirm, ...this.#form.querySelectorAll("label, [name=note]")];
  }

  async #look() {
    const asked = this.#job;
    try {
      const { body } = await get(`/workloads/${encodeURIComponent(this.#row.id)}`);
      const job = body.jobs.find((one) => one.id === asked.id);
      if (asked === this.#job && this.#dialog.open && !isResolvable(job, isAway(this.#row))) this.#sayIdle(job);
    } catch (error) {
      if (!(error instanceof SignedOut || error instanceof Refused || error instanceof Away)) throw error;
    } // the code that reads the lists shows the error
  }

  /** There is nothing to say of the job any more. */
  #sayIdle(job) {
    const ended = job.state === "finished";
    put(byId("resolve-title"), ended ? `${job.name} has ended: ${job.result}.` : `${job.name} is ${job.state} again.`);
    put(this.#problem, "");
    put(this.#leave, "Close");
    this.#leave.focus();
    for (const part of this.#parts) part.hidden = true;
  }

  async #resolve() {
    const { result, note } = Object.fromEntries(new FormData(this.#form));
    this.#confirm.disabled = true;
    try {
      await post(`/jobs/${encodeURIComponent(this.#job.id)}/resolve`, this.#key, { result, note });
      this.#dialog.close();
    } catch (error) {
      if (error instanceof SignedOut) {
        this.#dialog.close();
        this.#onSignedOut();
      } else if (error instanceof Refused || error instanceof Away) {
        put(this.#problem, error.message);
        this.#confirm.disabled = false;
      } else {
        throw error;
      }
    }
  }
}

// A dialog to set the result of a job whose worker is away, with a reason.

import { Away, Refused, SignedOut, get, newKey, post } from "./api.js";
import { Refresher } from "./refresh.js";
import { onlyWith } from "./rights.js";
import { make, put } from "./text.js";
import { isAway } from "./words.js";

const byId = (id) => document.getElementById(id);

/** Whether only a user can set the result of the job. `away`: its worker does not answer. */
export function isResolvable(job, away) {
  return job.state === "unknown" || (away && job.state === "stopping");
}

/** Make the button of a job; it dispatches the event "resolve-job". */
export function resolveButton(jobOf) {
  const button = onlyWith("operate", make("button", "quiet", "Resolve …"));
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
    this.#form.addEventListener("input", () => { this.#key = newKey(); }); // another request
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
    put(byId("resolve-title"), `What is the result of ${job.name}?`);
    put(this.#problem, "");
    put(this.#leave, "Leave it");
    for (const part of this.#parts) part.hidden = false;
    this.#confirm.disabled = false;
    this.#dialog.showModal();
  }

  /** Update the dialog: the job's worker may be back, or the job may have ended. */
  update() {
    if (this.#dialog.open) this.#refresher.ask();
  }

  /** The elements that belong only to the question. */
  get #parts() {
    return [byId("resolve-text"), this.#confirm, ...this.#form.querySelectorAll("label, [name=note]")];
  }

  async #look() {
    const asked = this.#job;
    try {
      const { body } = await get(`/workloads/${encodeURIComponent(this.#row.id)}`);
      const job = body.jobs.find((one) => one.id === asked.id);
      if (asked === this.#job && this.#dialog.open && !isResolvable(job, isAway(this.#row))) this.#showDone(job);
    } catch (error) {
      if (!(error instanceof SignedOut || error instanceof Refused || error instanceof Away)) throw error;
    } // the code that reads the lists shows the error
  }

  /** Show that the job needs no result any more. */
  #showDone(job) {
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

// Drain a worker (it finishes its jobs, gets no new ones, and then ends), or cancel the drain.

import { newKey } from "./api.js";
import { FormDialog, field, input } from "./form-dialog.js";
import { make } from "./text.js";

const MINUTE_SECONDS = 60;
const TEXT = "It gets no new jobs. Its running jobs continue. When the last one has ended, the worker ends.";

export class DrainDialog {
  #asking;
  #worker = null;
  #note = input("note", "text", { maxLength: 500 });
  #minutes = input("minutes", "number", { min: 0, max: 43200, step: 1, placeholder: "never" });
  #dialog = new FormDialog("Drain", [
    make("p", "", TEXT),
    field("Why", this.#note),
    field("Stop jobs that still run after this many minutes", this.#minutes),
  ], (values) => this.#drain(values));

  constructor(asking) {
    this.#asking = asking;
  }

  ask(worker) {
    this.#worker = worker;
    this.#dialog.form.reset();
    this.#dialog.open(`Drain ${worker.name}?`);
  }

  async #drain({ note, minutes }) {
    const body = { note };
    if (minutes !== "") body.stop_after_seconds = Number(minutes) * MINUTE_SECONDS;
    const done = `${this.#worker.name} gets no more jobs.`;
    const path = `/workers/${encodeURIComponent(this.#worker.id)}/drain`;
    const problem = await this.#asking.post(path, newKey(), body, this.#dialog.confirm, done);
    this.#dialog.problem.textContent = problem;
    if (!problem) this.#dialog.close();
  }
}

/** Take a worker's drain back. Returns why it was not done; "" once it is. */
export function endDrain(worker, asking, control) {
  const done = worker.state === "disconnected"
    ? `${worker.name} gets jobs when it is started.` : `${worker.name} gets jobs again.`;
  return asking.post(`/workers/${encodeURIComponent(worker.id)}/resume`, newKey(), {}, control, done);
}

// A dialog to change the priority of a waiting workload, with a reason.

import { Away, Refused, SignedOut, newKey, post } from "./api.js";
import { notify } from "./notice.js";
import { put } from "./text.js";
import { canBeBumped, nameOf } from "./words.js";

const byId = (id) => document.getElementById(id);

export class BumpDialog {
  #dialog = byId("bump-dialog");
  #form = byId("bump-form");
  #confirm = byId("bump-confirm");
  #problem = byId("bump-problem");
  #model;
  #row = null;
  #key = "";
  #onSignedOut;

  constructor(model, onSignedOut) {
    this.#model = model;
    this.#onSignedOut = onSignedOut;
    byId("bump-leave").addEventListener("click", () => this.#dialog.close());
    this.#form.addEventListener("input", () => { this.#key = newKey(); }); // another request
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#bump();
    });
  }

  ask(row) {
    this.#row = row;
    this.#key = newKey();
    this.#form.reset();
    this.#form.elements.priority.value = row.priority;
    put(byId("bump-title"), `Priority of ${nameOf(row)}`);
    put(this.#problem, "");
    this.#confirm.disabled = false;
    this.#dialog.showModal();
    this.#form.elements.priority.select();
  }

  /** The lists have changed: it may no longer wait. */
  update() {
    if (!this.#dialog.open || this.#confirm.disabled) return;
    const row = this.#model.rows.get(this.#row.id);
    if (row?.state && canBeBumped(row)) return;
    put(this.#problem, "It has begun, so its priority has no effect any more.");
    this.#confirm.disabled = true;
  }

  async #bump() {
    const { priority, note } = Object.fromEntries(new FormData(this.#form));
    const row = this.#row;
    this.#confirm.disabled = true;
    try {
      const path = `/workloads/${encodeURIComponent(row.id)}/priority`;
      await post(path, this.#key, { priority: Number(priority), note });
      this.#dialog.close();
      notify(`${nameOf(row)} has priority ${Number(priority)}.`);
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

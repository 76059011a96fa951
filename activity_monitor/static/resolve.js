// What became of a job whose worker is away? A person says it, and why.

import { Away, Refused, SignedOut, newKey, post } from "./api.js";
import { make, put } from "./text.js";

const byId = (id) => document.getElementById(id);

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
  #job = null;
  #key = "";
  #onSignedOut;

  constructor(onSignedOut) {
    this.#onSignedOut = onSignedOut;
    byId("resolve-leave").addEventListener("click", () => this.#dialog.close());
    this.#form.addEventListener("input", () => { this.#key = newKey(); }); // another wish
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#resolve();
    });
  }

  ask(job) {
    this.#job = job;
    this.#key = newKey();
    this.#form.reset();
    put(byId("resolve-title"), `What became of ${job.name}?`);
    put(this.#problem, "");
    this.#confirm.disabled = false;
    this.#dialog.showModal();
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

// The questions that the page asks: stop this one? and, after a session's end, who are you?

import { Away, Refused, SignedOut, post } from "./api.js";
import { prepareSignIn } from "./sign-in.js";
import { count, put } from "./text.js";
import { kindOf, nameOf, titleOf } from "./words.js";

const byId = (id) => document.getElementById(id);

/** Asks before a workload is stopped, then asks the service to stop it. */
export class StopDialog {
  #dialog = byId("stop-dialog");
  #confirm = byId("stop-confirm");
  #problem = byId("stop-problem");
  #row = null;
  #on;

  /** onAsked(row): the service has taken the request. onSignedOut(). */
  constructor(on) {
    this.#on = on;
    byId("stop-keep").addEventListener("click", () => this.#dialog.close());
    this.#confirm.addEventListener("click", () => this.#stop());
  }

  ask(row) {
    this.#row = row;
    const runs = row.state === "running" || row.state === "stopping";
    put(byId("stop-title"), `${runs ? "Stop" : "Cancel"} ${nameOf(row)}?`);
    put(byId("stop-text"), runs
      ? `“${titleOf(row)}” is running in ${count(row.boxes, "Box", "Boxes")}. `
        + "Its jobs are asked to end, and killed where they do not."
      : `“${titleOf(row)}” has not started. It will never run.`);
    put(this.#confirm, `${runs ? "Stop" : "Cancel"} the ${kindOf(row)}`);
    put(this.#problem, "");
    this.#confirm.disabled = false;
    this.#dialog.showModal();
  }

  async #stop() {
    const row = this.#row;
    this.#confirm.disabled = true;
    try {
      await post(`/workloads/${encodeURIComponent(row.id)}/stop`);
      this.#dialog.close();
      this.#on.onAsked(row);
    } catch (error) {
      if (error instanceof SignedOut) {
        this.#dialog.close();
        this.#on.onSignedOut();
      } else if (error instanceof Refused || error instanceof Away) {
        put(this.#problem, error.status === 409 ? "It has finished already." : error.message);
        this.#confirm.disabled = error.status === 409;
      } else {
        throw error;
      }
    }
  }
}

/** The sign-in form over the page; what the page shows stays. */
export class SignInDialog {
  #dialog = byId("sign-in-dialog");

  constructor(onSignedIn) {
    const form = this.#dialog.querySelector("form");
    prepareSignIn(form, byId("sign-in-problem"), () => {
      form.reset();
      this.#dialog.close();
      onSignedIn();
    });
    this.#dialog.addEventListener("cancel", (event) => event.preventDefault()); // there is no way around
  }

  show() {
    if (!this.#dialog.open) this.#dialog.showModal();
  }
}

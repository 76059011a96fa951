// The questions that the page asks: stop this one? and, after a session's end, who are you?

import { Away, Refused, SignedOut, post } from "./api.js";
import { prepareSignIn } from "./sign-in.js";
import { count, put } from "./text.js";
import { kindOf, nameOf, titleOf } from "./words.js";

const byId = (id) => document.getElementById(id);

/** Asks before a workload is stopped, then asks the service to stop it. Follows the workload meanwhile. */
export class StopDialog {
  #dialog = byId("stop-dialog");
  #confirm = byId("stop-confirm");
  #keep = byId("stop-keep");
  #problem = byId("stop-problem");
  #model;
  #row = null;
  #name = "";
  #on;

  /** onAsked(row): the service has taken the request. onSignedOut(). */
  constructor(model, on) {
    this.#model = model;
    this.#on = on;
    this.#keep.addEventListener("click", () => this.#dialog.close());
    this.#confirm.addEventListener("click", () => this.#stop());
  }

  ask(row) {
    this.#row = row;
    this.#name = nameOf(row);
    put(this.#problem, "");
    this.#confirm.disabled = this.#confirm.hidden = false;
    this.#show();
    this.#dialog.showModal();
  }

  /** The lists have changed: the question may be another, or there is none any more. */
  update() {
    if (this.#dialog.open) this.#show();
  }

  #show() {
    const row = this.#model.rows.get(this.#row.id);
    if (!row?.state) {
      if (!this.#confirm.hidden) this.#sayIdle(`${this.#name} has ended.`);
    } else if (row.state === "finished") {
      this.#sayIdle(`${this.#name} has ended: ${row.result ?? "result unknown"}.`);
    } else if (row.state === "stopping") {
      this.#sayIdle(`${this.#name} is being stopped already.`);
    } else {
      this.#sayQuestion(row);
    }
  }

  #sayQuestion(row) {
    const runs = row.state === "running";
    put(byId("stop-title"), `${runs ? "Stop" : "Cancel"} ${this.#name}?`);
    put(byId("stop-text"), runs
      ? `“${titleOf(row)}” is running in ${count(row.boxes, "Box", "Boxes")}. `
        + "Its jobs are asked to end, and killed where they do not."
      : `“${titleOf(row)}” has not started. It will never run.`);
    put(this.#confirm, `${runs ? "Stop" : "Cancel"} the ${kindOf(row)}`);
    put(this.#keep, "Keep it");
  }

  /** There is nothing to do here but to close the dialog. */
  #sayIdle(text) {
    put(byId("stop-title"), text);
    put(byId("stop-text"), "There is nothing to stop.");
    put(this.#problem, "");
    put(this.#keep, "Close");
    if (document.activeElement === this.#confirm) this.#keep.focus();
    this.#confirm.hidden = true;
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
      } else if (error.status === 409 || error.status === 404) {
        this.#sayIdle(`${this.#name} has ended.`);
      } else if (error instanceof Refused || error instanceof Away) {
        put(this.#problem, error.message);
        this.#confirm.disabled = false;
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

  /** Whether it was open: somebody has signed in elsewhere in this browser. */
  leave() {
    const { open } = this.#dialog;
    this.#dialog.close();
    return open;
  }
}

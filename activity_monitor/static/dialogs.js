// The page's dialogs: confirm a stop, and sign in again after the session has ended.

import { Away, Refused, SignedOut, post } from "./api.js";
import { prepareSignIn } from "./sign-in.js";
import { count, put } from "./text.js";
import { kindOf, nameOf, titleOf } from "./words.js";

const byId = (id) => document.getElementById(id);

/** Asks for confirmation, then requests the stop. Follows the workload while it is open. */
export class StopDialog {
  #dialog = byId("stop-dialog");
  #confirm = byId("stop-confirm");
  #keep = byId("stop-keep");
  #problem = byId("stop-problem");
  #model;
  #row = null;
  #name = "";
  #on;

  /** onAsked(row): the service has accepted the request. onSignedOut(). */
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

  /** Update the question after a change of the lists; it may have become obsolete. */
  update() {
    if (this.#dialog.open) this.#show();
  }

  #show() {
    const row = this.#model.rows.get(this.#row.id);
    if (!row?.state) {
      if (!this.#confirm.hidden) this.#showDone(`${this.#name} has ended.`);
    } else if (row.state === "finished") {
      this.#showDone(`${this.#name} has ended: ${row.result ?? "result unknown"}.`);
    } else if (row.state === "stopping") {
      this.#showDone(`${this.#name} is being stopped already.`);
    } else {
      this.#sayQuestion(row);
    }
  }

  #sayQuestion(row) {
    const runs = row.state === "running";
    put(byId("stop-title"), `${runs ? "Stop" : "Cancel"} ${this.#name}?`);
    put(byId("stop-text"), runs
      ? `“${titleOf(row)}” is running in ${count(row.boxes, "Box", "Boxes")}. `
        + "Its jobs are asked to end, and killed if they do not."
      : `“${titleOf(row)}” has not started. It will never run.`);
    put(this.#confirm, `${runs ? "Stop" : "Cancel"} the ${kindOf(row)}`);
    put(this.#keep, "Keep it");
  }

  /** Show that nothing is left to do; the user can only close the dialog. */
  #showDone(text) {
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
        this.#showDone(`${this.#name} has ended.`);
      } else if (error instanceof Refused || error instanceof Away) {
        put(this.#problem, error.message);
        this.#confirm.disabled = false;
      } else {
        throw error;
      }
    }
  }
}

/** The sign-in form over the page, which stays visible. */
export class SignInDialog {
  #dialog = byId("sign-in-dialog");

  constructor(onSignedIn) {
    const form = this.#dialog.querySelector("form");
    prepareSignIn(form, byId("sign-in-problem"), () => {
      form.reset();
      this.#dialog.close();
      onSignedIn();
    });
    this.#dialog.addEventListener("cancel", (event) => event.preventDefault()); // signing in is required
  }

  show() {
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  /** Close the form after a sign-in elsewhere in this browser; return whether it was open. */
  leave() {
    const { open } = this.#dialog;
    this.#dialog.close();
    return open;
  }
}

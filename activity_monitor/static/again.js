// Submit a finished workload again: a build at once, a deploy after a confirmation.

import { Away, Refused, SignedOut, newKey, post } from "./api.js";
import { notify } from "./notice.js";
import { put } from "./text.js";
import { nameOf, titleOf } from "./words.js";

const byId = (id) => document.getElementById(id);

export class Again {
  #dialog = byId("again-dialog");
  #row = null;
  #keys = new Map(); // by workload: the key of a request whose outcome is not known
  #on;

  /** onSignedOut(). */
  constructor(on) {
    this.#on = on;
    byId("again-leave").addEventListener("click", () => this.#dialog.close());
    byId("again-confirm").addEventListener("click", () => {
      this.#dialog.close();
      this.#submit(this.#row);
    });
  }

  ask(row) {
    if (row.kind !== "deploy") {
      this.#submit(row);
      return;
    }
    this.#row = row;
    put(byId("again-title"), `Deploy to ${row.server} again?`);
    put(byId("again-text"), `“${titleOf(row)}” (${nameOf(row)}) is deployed once more, even if another build was deployed since.`);
    this.#dialog.showModal();
  }

  async #submit(row) {
    const key = this.#keys.get(row.id) ?? newKey();
    this.#keys.set(row.id, key);
    try {
      const { body } = await post(`/workloads/${encodeURIComponent(row.id)}/rebuild`, key);
      this.#keys.delete(row.id);
      notify(`${nameOf(row)} was submitted again: `, { id: body.id, text: nameOf(body) });
    } catch (error) {
      if (error instanceof SignedOut) {
        this.#on.onSignedOut();
      } else if (error instanceof Refused || error instanceof Away) {
        if (error instanceof Refused) this.#keys.delete(row.id);
        notify(`${nameOf(row)} was not submitted again: ${error.message}`);
      } else {
        throw error;
      }
    }
  }
}

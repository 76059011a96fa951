// Requests of the user on the other pages: one request at a time, and one sentence about its result.

import { Away, Refused, SignedOut, post, put, remove } from "./api.js";
import { notify } from "./notice.js";

export class Asking {
  #on;

  /** onChanged(): what is shown may be old. onSignedOut(). */
  constructor(on) {
    this.#on = on;
  }

  put(path, body, control, done) {
    return this.#ask(() => put(path, body), control, done);
  }

  remove(path, control, done) {
    return this.#ask(() => remove(path), control, done);
  }

  post(path, key, body, control, done) {
    return this.#ask(() => post(path, key, body), control, done);
  }

  /** Why it was not done; "" once it is. `control` cannot be used meanwhile. `done`: a sentence, or what
      makes {sentence, target} of the answer. */
  async #ask(call, control, done) {
    control.disabled = true;
    try {
      const { body } = await call();
      const said = typeof done === "function" ? done(body) : { sentence: done };
      notify(said.sentence, said.target);
      this.#on.onChanged();
      return "";
    } catch (error) {
      if (error instanceof SignedOut) {
        this.#on.onSignedOut();
        return "Sign in, then ask again.";
      }
      if (!(error instanceof Refused || error instanceof Away)) throw error;
      if (error.status === 404) this.#on.onChanged(); // somebody else was faster
      if (!control.closest("dialog")) notify(error.message);
      return error.message;
    } finally {
      control.disabled = false;
    }
  }
}

// Whether what the page shows is the present: the stream of events lives, and the service answers.
// While it is not, the clocks stand still, and soon a banner says so.

import { put } from "./text.js";
import { holdClock, moment, now } from "./times.js";
import { showConnection } from "./status.js";

const PATIENCE_MS = 1000; // a stream that is there again by then was only handed over

export class Trouble {
  #banner = document.getElementById("banner");
  #timer = 0;
  #stream = "connecting";
  #ofStream = "";
  #ofAnswer = "";
  #heardAt = null;
  #was = "";
  #on;

  /** onChange(): `word` may be another. onBack(): it is "" again. */
  constructor(on) {
    this.#on = on;
  }

  /** Why nothing on the page is new, in a word or two; "" while all is well. */
  get word() {
    if (this.#stream === "out") return "Signed out";
    return this.#ofStream || this.#ofAnswer ? "Away" : "";
  }

  /** The stream is "live", "reconnecting" (and why), "paused" or "out" (the session has ended). */
  stream(state, why = "") {
    this.#stream = state;
    this.#ofStream = state === "reconnecting" ? why || "The connection to the service broke." : "";
    showConnection(state);
    this.#changed();
  }

  /** The service did not answer, and why; "": it did. */
  answer(why) {
    this.#ofAnswer = why;
    if (!why && !this.#ofStream) this.#heardAt = now();
    this.#changed();
  }

  /** There was news. */
  heard() {
    this.#heardAt = now();
  }

  #changed() {
    const why = this.#ofAnswer || this.#ofStream;
    const held = why !== "" || this.#stream === "out";
    holdClock(held);
    document.body.classList.toggle("held", held);
    if (!why) {
      clearTimeout(this.#timer);
      this.#timer = 0;
      this.#banner.hidden = true;
    } else if (!this.#banner.hidden) {
      this.#say();
    } else {
      this.#timer ||= setTimeout(() => this.#say(), PATIENCE_MS);
    }
    this.#on.onChange();
    const back = this.#was && !this.word;
    this.#was = this.word;
    if (back) this.#on.onBack();
  }

  #say() {
    const shown = this.#heardAt ? ` What you see is of ${moment(new Date(this.#heardAt).toISOString())}.` : "";
    put(this.#banner, `${this.#ofAnswer || this.#ofStream}${shown} Trying again …`);
    this.#banner.hidden = false;
  }
}

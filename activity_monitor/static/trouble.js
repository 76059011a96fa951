// Whether the page is up to date: the stream of events is connected, and the service answers. If not,
// the clocks stop, and soon a banner is shown.

import { put } from "./text.js";
import { holdClock, moment, now } from "./times.js";
import { showConnection } from "./status.js";

const PATIENCE_MS = 1000; // a stream that reconnects sooner only changed its node

export class Trouble {
  #banner = document.getElementById("banner");
  #timer = 0;
  #stream = "connecting";
  #ofStream = "";
  #ofAnswer = "";
  #answeredAt = null;
  #was = "";
  #on;

  /** onChange(): `word` may have changed. onBack(): it is "" again. */
  constructor(on) {
    this.#on = on;
  }

  /** One or two words why the page is outdated; "" if it is not. */
  get word() {
    if (this.#stream === "out") return "Signed out";
    return this.#ofStream || this.#ofAnswer ? "Away" : "";
  }

  /** Set the stream's state: "live", "reconnecting" (with a reason), "paused" or "out" (signed out). */
  stream(state, why = "") {
    this.#stream = state;
    this.#ofStream = state === "reconnecting" ? why || "The connection to the service broke." : "";
    showConnection(state);
    this.#changed();
  }

  /** Set why the service did not answer; "": it did. */
  answer(why) {
    this.#ofAnswer = why;
    if (!why && !this.#ofStream) this.#answeredAt = now();
    this.#changed();
  }

  /** Note that an event or answer arrived. */
  noteAnswer() {
    this.#answeredAt = now();
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
    const shown = this.#answeredAt ? ` What you see is of ${moment(new Date(this.#answeredAt).toISOString())}.` : "";
    put(this.#banner, `${this.#ofAnswer || this.#ofStream}${shown} Trying again …`);
    this.#banner.hidden = false;
  }
}

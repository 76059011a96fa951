// Which row is open: one at a time, named in the address (#w41), so that a link can open it, whether
// it is in the lists or not, and the browser's Back closes it.

import { Away, Refused, SignedOut, get } from "./api.js";
import { dropRow, hashOf, stepTo } from "./address.js";
import { notify } from "./notice.js";
import { Panel } from "./panel.js";
import { reveal } from "./sight.js";

const IS_ID = /^w\d{1,19}$/;
const ID_SHOWN = 40; // characters of what may be anything
const SETTLING_MS = 3000; // after the answer: a log that opens with it is still growing

export class Opener {
  #model;
  #board;
  #on;
  #panel = null;
  #view = null;
  #wanted = null; // an id that is to be opened as soon as its row is there
  #asked = false; // ... and the service was asked for it
  #fetched = null; // a row that is only here because it was asked for
  #moved = false; // a person has scrolled since the row was opened
  #settled = Infinity; // until then the answer is brought into sight whenever it grows
  #growth = new ResizeObserver(() => this.#grew());

  /** onSignedOut(). onUnfiltered(): the filter hides what is to be opened, and has to go. */
  constructor(model, board, on) {
    this.#model = model;
    this.#board = board;
    this.#on = on;
    this.#want(named());
    document.getElementById("lists").addEventListener("click", (event) => this.#clicked(event));
    addEventListener("popstate", () => this.#addressed());
    for (const sort of ["wheel", "touchmove", "keydown"]) {
      addEventListener(sort, () => { this.#moved = true; }, { passive: true });
    }
  }

  /** After the lists were shown anew. */
  update() {
    if (this.#wanted) this.#openWanted();
    if (!this.#view) return;
    if (this.#board.views.get(this.#model.pinned) !== this.#view) {
      const { row } = this.#view;
      this.#close();
      if (row.state && !this.#board.lets(row)) {
        dropRow(); // a person filters
      } else {
        this.#want(row.id); // the service is asked what became of it
        this.#board.invalidate();
      }
    } else {
      this.#panel.update();
    }
  }

  /** An event came by: it may be of the open row's jobs. */
  heard(event) {
    if (event.workload === this.#model.pinned && event.job) this.#panel?.jobChanged();
  }

  tick() {
    this.#panel?.tick();
  }

  /** After signing in again, or when the service is back. */
  resume() {
    this.#asked = false;
    this.#panel?.resume();
  }

  /** Close the open row and go back to its title. */
  escape() {
    const title = this.#view?.title;
    if (!title) return;
    this.#close();
    stepTo(null);
    title.focus();
  }

  #close() {
    if (!this.#view) return;
    this.#growth.disconnect();
    this.#panel.close();
    this.#view.element.classList.remove("open");
    this.#view.title.setAttribute("aria-expanded", "false");
    this.#view.title.removeAttribute("aria-controls");
    if (this.#fetched?.id === this.#model.pinned && this.#fetched.state === "finished") {
      this.#model.drop(this.#fetched);
      this.#board.invalidate();
    }
    this.#panel = this.#view = this.#fetched = this.#model.pinned = null;
  }

  #open(view) {
    this.#close();
    this.#view = view;
    this.#model.pinned = view.row.id;
    this.#panel = new Panel(view.row, {
      onSignedOut: this.#on.onSignedOut,
      onWorkload: (data) => this.#learn(data),
      onAnswer: () => { this.#settled = performance.now() + SETTLING_MS; },
    });
    view.element.append(this.#panel.element);
    view.element.classList.add("open");
    view.title.setAttribute("aria-expanded", "true");
    view.title.setAttribute("aria-controls", this.#panel.element.id);
    this.#moved = false;
    this.#settled = Infinity;
    this.#growth.observe(this.#panel.element); // which tells the first size, too
  }

  #grew() {
    if (this.#view && !this.#moved && performance.now() < this.#settled) {
      reveal(this.#view.element, this.#panel.answer);
    }
  }

  #clicked(event) {
    const view = this.#board.views.get(event.target.closest(".row")?.id);
    if (!view || event.target.closest(".panel, .stop, .again")) return;
    if (event.target.closest("button, a") || !getSelection().toString()) this.#toggle(view);
  }

  #toggle(view) {
    if (view === this.#view) {
      this.#close();
      stepTo(null);
    } else {
      this.#open(view);
      stepTo(view.row.id);
    }
  }

  // --- What the address names ---------------------------------------------------------------

  /** The address has changed: by Back, by a link, or by hand. */
  #addressed() {
    const id = named();
    if (id !== null && id === this.#view?.row.id) return;
    if (id === null && document.getElementById(hashOf())) return; // a part of the page
    this.#close();
    this.#want(id);
    this.#board.invalidate();
  }

  #want(id) {
    notify("");
    this.#wanted = this.#model.pinned = id;
    this.#asked = false;
  }

  #openWanted() {
    const row = this.#model.rows.get(this.#wanted);
    const view = this.#board.views.get(this.#wanted);
    if (!row?.state || !row.home) {
      this.#fetch(this.#wanted);
    } else if (!view) {
      if (!this.#board.lets(row)) this.#on.onUnfiltered();
    } else {
      this.#wanted = null;
      this.#open(view);
      view.title.focus({ preventScroll: true });
    }
  }

  /** It is in no list: it finished long ago, or there is no such thing. */
  async #fetch(id) {
    if (this.#asked) return;
    this.#asked = true;
    if (!IS_ID.test(id)) {
      this.#unknown(id);
      return;
    }
    try {
      const { body } = await get(`/workloads/${encodeURIComponent(id)}`);
      if (this.#wanted !== id) return;
      if (!this.#model.rows.get(id)?.home) {
        this.#learn(body);
        this.#fetched = this.#model.rows.get(id);
      }
    } catch (error) {
      if (error instanceof SignedOut) this.#on.onSignedOut();
      else if (error instanceof Refused) this.#unknown(id, error);
      else if (!(error instanceof Away)) throw error;
    }
  }

  #unknown(id, error = null) {
    if (this.#wanted !== id) return;
    this.#wanted = this.#model.pinned = null;
    const known = error && error.status !== 404;
    notify(known ? error.message : `There is no workload ${id.slice(0, ID_SHOWN)} here.`);
  }

  #learn(data) {
    this.#model.learn(data);
    this.#board.invalidate();
  }
}

/** The workload that the address names; null for none, as where it names another part of the page. */
function named() {
  const hash = hashOf();
  const part = document.getElementById(hash);
  return hash && (!part || part.classList.contains("row")) ? hash : null;
}

// The open row: one at a time. Its id is in the address (#w41), so that a link can open it, even if
// it is not in the lists, and the browser's Back closes it.

import { Away, Refused, SignedOut, get } from "./api.js";
import { dropRow, hashOf, stepTo } from "./address.js";
import { notify } from "./notice.js";
import { Panel } from "./panel.js";
import { reveal } from "./sight.js";

const IS_ID = /^w\d{1,19}$/;
const ID_SHOWN = 40; // characters of an id from the address
const SETTLING_MS = 3000; // after the answer, because a log that opens with it is still growing

export class Opener {
  #model;
  #board;
  #on;
  #panel = null;
  #view = null;
  #wanted = null; // an id to open as soon as its row exists
  #asked = false; // ... and it was requested from the service
  #fetched = null; // a row that exists only because it was requested
  #moved = false; // the user has scrolled since the row was opened
  #settled = Infinity; // until then, scroll to the answer whenever it grows
  #growth = new ResizeObserver(() => this.#grew());

  /** onSignedOut(). onUnfiltered(): the filter hides the row to open, so it must be cleared. */
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

  /** Call this after the lists were updated. */
  update() {
    if (this.#wanted) this.#openWanted();
    if (!this.#view) return;
    if (this.#board.views.get(this.#model.pinned) !== this.#view) {
      const { row } = this.#view;
      this.#close();
      if (row.state && !this.#board.matches(row)) {
        dropRow(); // the user changed the filter
      } else {
        this.#want(row.id); // request it from the service
        this.#board.invalidate();
      }
    } else {
      this.#panel.update();
    }
  }

  /** Take note of an event, which may concern a job of the open row. */
  onEvent(event) {
    if (event.workload === this.#model.pinned && event.job) this.#panel?.jobChanged();
  }

  tick() {
    this.#panel?.tick();
  }

  /** Call this after signing in again, or when the service is back. */
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
    this.#growth.observe(this.#panel.element); // also called for the first size
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

  // --- The address --------------------------------------------------------------------------

  /** Handle a change of the address: by Back, by a link, or by typing. */
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
      if (!this.#board.matches(row)) this.#on.onUnfiltered();
    } else {
      this.#wanted = null;
      this.#open(view);
      view.title.focus({ preventScroll: true });
    }
  }

  /** Request a row that is in no list: it finished long ago, or does not exist. */
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

/** The id of the workload in the address; null if there is none, or another part of the page. */
function named() {
  const hash = hashOf();
  const part = document.getElementById(hash);
  return hash && (!part || part.classList.contains("row")) ? hash : null;
}

// Keyboard shortcuts: rows by j and k or the arrows, lists by number, and a few single keys, which
// can be switched off because they conflict with speech input.

import { may } from "./rights.js";
import { canBeBumped } from "./words.js";

const LISTS_BY_KEY = { 1: "upcoming", 2: "blocked", 3: "running", 4: "finished" };
const STORED = "boxsched-single-keys";

const byId = (id) => document.getElementById(id);

export class Keys {
  #board;
  #on;
  #switch = byId("keys-on");
  #help = byId("help-dialog");

  /** onClose(): Esc. onFleet(): the key n. onStop(row), onAgain(row), onBump(row): the keys s, r and p
      on a row. */
  constructor(board, on) {
    this.#board = board;
    this.#on = on;
    this.#switch.checked = localStorage.getItem(STORED) !== "off";
    this.#switch.addEventListener("change", () => {
      localStorage.setItem(STORED, this.#switch.checked ? "on" : "off");
    });
    byId("help-button").addEventListener("click", () => this.#help.showModal());
    byId("help-close").addEventListener("click", () => this.#help.close());
    document.addEventListener("keydown", (event) => this.#pressed(event));
  }

  #pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.matches("input, textarea, select");
    if (event.key === "Escape") this.#on.onClose();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") this.#arrow(event, typing);
    else if (!typing && this.#switch.checked && this.#single(event)) event.preventDefault();
  }

  /** Arrows scroll an element that can scroll; otherwise they move between rows. */
  #arrow(event, typing) {
    const onRow = event.target.matches(".row-title, body, #lists");
    const intoRows = typing && event.target.id === "filter" && event.key === "ArrowDown";
    if (!onRow && !intoRows) return;
    event.preventDefault();
    this.#step(event.key === "ArrowDown" ? 1 : -1);
  }

  #single(event) {
    if (event.key === "j") this.#step(1);
    else if (event.key === "k") this.#step(-1);
    else if (event.key === "/") byId("filter").focus();
    else if (event.key === "?") this.#help.showModal();
    else if (event.key === "n") this.#on.onFleet();
    else if (event.key === "s") return this.#ask(event.target, "stop", this.#on.onStop);
    else if (event.key === "r") return this.#ask(event.target, "again", this.#on.onAgain);
    else if (event.key === "p") return this.#bump(event.target);
    else if (LISTS_BY_KEY[event.key]) this.#toList(LISTS_BY_KEY[event.key]);
    else return false;
    return true;
  }

  #step(by) {
    const views = this.#board.inOrder();
    const row = document.activeElement.closest(".row");
    const at = views.findIndex((view) => view.element === row);
    const next = at < 0 ? (by > 0 ? 0 : views.length - 1) : at + by;
    const title = views[Math.max(0, Math.min(next, views.length - 1))]?.title;
    title?.focus();
    title?.closest(".row").scrollIntoView({ block: "nearest" });
  }

  /** Do the action of a row's button, if the row has the button now; return whether it was done. */
  #ask(target, button, on) {
    const view = this.#board.views.get(target.closest(".row")?.id);
    if (!view || view[button].hidden || view[button].disabled || !may(view[button].dataset.right)) return false;
    on(view.row);
    return true;
  }

  /** A waiting workload can get another priority. */
  #bump(target) {
    const row = this.#board.views.get(target.closest(".row")?.id)?.row;
    if (!row || !canBeBumped(row) || !may("operate")) return false;
    this.#on.onBump(row);
    return true;
  }

  #toList(name) {
    const first = byId(name).querySelector(".row-title");
    byId(name).scrollIntoView({ block: "start" });
    (first ?? byId(`${name}-title`)).focus({ preventScroll: true });
  }
}

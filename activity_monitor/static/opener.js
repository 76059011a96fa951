// Which row is open: one at a time, named in the address (#w41), so that a link can open it.

import { Panel } from "./panel.js";

export class Opener {
  #model;
  #board;
  #on;
  #panel = null;
  #view = null;
  #wanted = null;

  /** onStop(row): a row's stop button. onSignedOut(). */
  constructor(model, board, on) {
    this.#model = model;
    this.#board = board;
    this.#on = on;
    this.#wanted = named();
    document.getElementById("lists").addEventListener("click", (event) => this.#clicked(event));
    addEventListener("hashchange", () => this.#addressed());
  }

  /** After the lists were shown anew. */
  update() {
    if (this.#wanted && this.#board.views.has(this.#wanted)) this.#addressed(this.#wanted);
    if (!this.#view) return;
    if (this.#board.views.get(this.#model.pinned) !== this.#view) this.close();
    else this.#panel.update();
  }

  /** An event came by: it may be of the open row's jobs. */
  heard(event) {
    if (event.workload === this.#model.pinned && event.job) this.#panel?.jobChanged();
  }

  tick() {
    this.#panel?.tick();
  }

  resume() {
    this.#panel?.resume();
  }

  /** Esc: from the filter it clears it; else it closes the row and goes back to its title. */
  escape(typing) {
    const filter = document.getElementById("filter");
    if (typing && document.activeElement === filter) {
      filter.value = "";
      this.#board.filter("");
      filter.blur();
      return;
    }
    const title = this.#view?.title;
    this.close();
    title?.focus();
  }

  close() {
    if (!this.#view) return;
    this.#panel.close();
    this.#view.element.classList.remove("open");
    this.#view.title.setAttribute("aria-expanded", "false");
    this.#view.title.removeAttribute("aria-controls");
    this.#panel = this.#view = this.#model.pinned = null;
    history.replaceState(null, "", location.pathname);
  }

  #open(view) {
    this.close();
    this.#view = view;
    this.#model.pinned = view.row.id;
    this.#panel = new Panel(view.row, this.#on);
    view.element.append(this.#panel.element);
    view.element.classList.add("open");
    view.title.setAttribute("aria-expanded", "true");
    view.title.setAttribute("aria-controls", this.#panel.element.id);
    history.replaceState(null, "", `#${view.row.id}`);
  }

  #clicked(event) {
    const view = this.#board.views.get(event.target.closest(".row")?.id);
    if (!view || event.target.closest(".panel")) return;
    if (event.target.closest(".stop")) this.#on.onStop(view.row);
    else if (event.target.closest("button, a") || !getSelection().toString()) this.#toggle(view);
  }

  #toggle(view) {
    if (view === this.#view) this.close();
    else this.#open(view);
  }

  #addressed(id = named()) {
    const view = this.#board.views.get(id);
    this.#wanted = view ? null : id;
    if (!view) return;
    if (view !== this.#view) this.#open(view);
    view.title.focus();
    view.element.scrollIntoView({ block: "nearest" });
  }
}

function named() {
  return /^#(w\d+)$/.exec(location.hash)?.[1] ?? null;
}

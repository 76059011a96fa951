// The four lists on the page. Rows are keyed by their workload: a row that moves to another list
// stays the same element. All changes are shown together, at most four times a second.

import { isGliding, noted } from "./glide.js";
import { LISTS, sought } from "./model.js";
import { Pace } from "./pace.js";
import { RowView } from "./row.js";
import { amount, make } from "./text.js";

const STEP = 100; // rows of a list on the page, and how many more each "show more" brings
const CALM_MS = 250;
const MANY = 12; // with more rows in a list, their icons do not rotate: it would distract and be expensive
const POOL = 200;
const FEW = 6; // at most this many new rows are highlighted at once; more would flicker
const NOTHING = {
  upcoming: "Nothing waits for its branch or server.",
  blocked: "Nothing waits for Boxes.",
  running: "Nothing runs.",
  finished: "Nothing has finished yet.",
};

export class Board {
  /** The views on the page, by workload id. */
  views = new Map();
  /** Called each time after the lists were updated. */
  onShown = () => {};
  #model;
  #lists = {};
  #words = [];
  #pool = [];
  #pace = new Pace(() => this.#show(), CALM_MS);
  #loaded = false;

  /** `filter`: the initial filter. */
  constructor(model, filter = "") {
    this.#model = model;
    this.#words = wordsOf(filter);
    for (const name of LISTS) this.#lists[name] = this.#list(name);
  }

  /** Update the lists soon. */
  invalidate() {
    this.#pace.ask();
  }

  /** Show only rows with all these words in their name, title, branch, server, author or state. */
  filter(text) {
    this.#words = wordsOf(text);
    this.invalidate();
  }

  /** Whether the filter leaves the row on the page. */
  matches(row) {
    const text = sought(row);
    return this.#words.every((word) => text.includes(word));
  }

  /** Update the clocks of waiting and running rows. */
  tick() {
    for (const view of this.views.values()) if (view.row.state !== "finished") view.tick();
  }

  /** Return the views in the order of the page. */
  inOrder() {
    return LISTS.flatMap((name) => [...this.#lists[name].rows.children]).map((li) => this.views.get(li.id));
  }

  #list(name) {
    const rows = document.querySelector(`[data-list="${name}"]`);
    const nothing = make("p", "nothing");
    const more = make("button", "more");
    const list = { name, section: rows.closest(".list"), rows, nothing, more, limit: STEP, wanted: [] };
    list.counts = document.querySelectorAll(`[data-count="${name}"]`);
    more.type = "button";
    more.hidden = nothing.hidden = true;
    more.addEventListener("click", () => {
      list.limit += STEP;
      this.invalidate();
    });
    rows.after(nothing, more);
    return list;
  }

  #show() {
    if (isGliding()) {
      this.invalidate();
      return;
    }
    const held = this.#focused();
    const anchor = this.#anchor();
    const before = anchor?.getBoundingClientRect().top;
    const glide = this.#loaded ? noted(LISTS.map((name) => this.#lists[name])) : () => {};
    const wanted = new Set();
    for (const name of LISTS) this.#choose(this.#lists[name], wanted);
    for (const [id, view] of this.views) if (!wanted.has(id)) this.#release(view);
    for (const name of LISTS) this.#arrange(this.#lists[name]);
    if (anchor?.isConnected) scrollBy(0, anchor.getBoundingClientRect().top - before);
    glide();
    this.#refocus(held);
    this.#loaded = true;
    this.onShown();
  }

  /** Decide which rows of a list are on the page; update its heading and foot. */
  #choose(list, wanted) {
    const all = this.#model.inOrder(list.name);
    const found = this.#words.length ? all.filter((row) => this.matches(row)) : all;
    list.wanted = found.slice(0, list.limit);
    const pinned = this.#model.rows.get(this.#model.pinned);
    if (pinned && found.length > list.limit && !list.wanted.includes(pinned) && found.includes(pinned)) {
      list.wanted.push(pinned);
    }
    for (const row of list.wanted) wanted.add(row.id);
    list.rows.classList.toggle("many", list.wanted.length > MANY);
    const size = this.#words.length ? `${amount(found.length)} of ${amount(all.length)}` : amount(all.length);
    for (const node of list.counts) node.textContent = size;
    list.nothing.hidden = found.length > 0;
    list.nothing.textContent = all.length ? "Nothing here matches the filter." : NOTHING[list.name];
    const left = found.length - list.wanted.length;
    list.more.hidden = left <= 0;
    list.more.textContent = `and ${amount(left)} more: show ${amount(Math.min(left, STEP))}`;
  }

  /** Sort the elements, moving as few as possible. */
  #arrange(list) {
    let cursor = list.rows.firstElementChild;
    const fresh = [];
    for (const row of list.wanted) {
      while (cursor && this.views.get(cursor.id)?.row.home !== row.home) cursor = cursor.nextElementSibling;
      const view = this.views.get(row.id) ?? this.#take(row);
      view.update();
      if (view.home !== list) {
        view.home = list;
        fresh.push(view);
      }
      if (view.element === cursor) cursor = cursor.nextElementSibling;
      else move(list.rows, view.element, cursor);
    }
    if (this.#loaded && fresh.length <= FEW) for (const view of fresh) view.element.classList.add("arrived");
  }

  #take(row) {
    const view = this.#pool.pop() ?? new RowView();
    view.bind(row);
    view.home = null;
    this.views.set(row.id, view);
    return view;
  }

  #release(view) {
    this.views.delete(view.row.id);
    view.element.remove();
    const isOpen = view.element.classList.contains("open");
    if (!isOpen && this.#pool.length < POOL) this.#pool.push(view);
  }

  /** The row that stays where it is on the screen: the open one, else the first one in sight of a page
      that is scrolled. */
  #anchor() {
    const open = this.views.get(this.#model.pinned)?.element;
    if (open && inSight(open)) return open;
    return scrollY > 0 ? this.inOrder().find((view) => inSight(view.element))?.element : null;
  }

  #focused() {
    const element = document.activeElement;
    const view = this.views.get(element?.closest?.(".row")?.id);
    if (!view) return null;
    return { element, list: view.home, at: [...view.home.rows.children].indexOf(view.element) };
  }

  /** Keep the focus on its row, or move it to the row that is now in the same position. */
  #refocus(held) {
    if (!held || document.activeElement === held.element) return;
    const neighbours = held.list.rows.children;
    const beside = this.views.get(neighbours[Math.min(held.at, neighbours.length - 1)]?.id)?.title;
    const target = held.element.isConnected ? held.element : beside;
    (target ?? document.getElementById(`${held.list.name}-title`)).focus({ preventScroll: true });
  }
}

function wordsOf(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

function inSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

/** Move an element; keep its focus and scroll position if the browser supports it. */
function move(parent, element, before) {
  const used = element.classList.contains("open") || element.contains(document.activeElement);
  if (!used || !element.isConnected || !parent.moveBefore) {
    parent.insertBefore(element, before);
    return;
  }
  const { mark } = element.dataset;
  parent.moveBefore(element, before);
  element.dataset.mark = ""; // Chromium 156 does not recalculate its styles otherwise
  element.dataset.mark = mark;
}

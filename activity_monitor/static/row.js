// One row of a list. It shows a workload, and can be reused for another one later.

import { icon } from "./icons.js";
import { onlyWith } from "./rights.js";
import { amount, make, plain, put, unseen } from "./text.js";
import { exactly, inLocalTime, moment, span } from "./times.js";
import {
  PLAIN_PRIORITY, againOf, canBeAgain, clockOf, kindOf, nameOf, placeOf, stateOf, titleOf, whyOf,
} from "./words.js";

function button(className, text) {
  const node = make("button", `quiet ${className}`, text);
  node.type = "button";
  return node;
}

export class RowView {
  row = null;
  home = null;
  #version = -1;
  #shown = null; // a copy of the row's data that is displayed
  #mark = null;
  #icons = {};
  #placeIcon = null;

  constructor() {
    this.element = make("li", "row");
    this.title = make("button", "row-title");
    this.title.type = "button";
    this.title.setAttribute("aria-expanded", "false");
    this.text = make("bdi");
    this.title.append(this.text);
    this.stop = button("stop", "Stop");
    this.again = button("again", "Rebuild");
    this.#meta();
    this.#side();
    this.why = make("p", "row-why");
    this.markPlace = make("span", "mark");
    const main = make("div", "row-main", this.title, this.meta, this.why);
    this.element.append(make("div", "row-head", this.markPlace, main, this.side));
  }

  #meta() {
    this.kind = make("span", "kind");
    this.state = unseen("");
    this.project = make("bdi", "project");
    this.place = make("bdi", "place-text");
    this.placeMark = make("span", "place-mark");
    this.placeBox = make("span", "place", this.placeMark, this.place);
    this.author = make("bdi", "author");
    this.meta = make("p", "row-meta", this.state, this.kind, this.project, this.placeBox, this.author);
  }

  #side() {
    this.priority = make("span", "priority", "PRIORITY");
    this.result = make("span", "result");
    this.word = make("span", "clock-word");
    this.time = make("span", "clock-time");
    this.clock = make("span", "clock", this.word, " ", this.time);
    this.boxes = make("span", "boxes-text");
    this.boxesBox = make("span", "boxes", icon("box"), this.boxes);
    this.created = make("time", "created");
    const top = make("div", "side-top", this.priority, this.result, this.clock);
    const low = make("div", "side-low", this.boxesBox, make("span", "created-box", "created ", this.created));
    this.side = make("div", "row-side", make("div", "side-facts", top, low), this.stop, this.again);
  }

  /** Show `row` instead of the former one. */
  bind(row) {
    this.row = row;
    this.#version = -1;
    this.element.id = row.id;
    this.meta.id = `meta-${row.id}`;
    this.why.id = `why-${row.id}`;
    this.title.setAttribute("aria-describedby", `${this.meta.id} ${this.why.id}`);
    this.title.setAttribute("aria-expanded", "false");
    this.element.classList.remove("open", "arrived");
    this.update();
  }

  /** Show all changes since the last call. */
  update() {
    if (this.#version === this.row.version) return;
    this.#version = this.row.version;
    const row = this.#shown = { ...this.row };
    const state = stateOf(row);
    if (this.#mark !== state) this.#setMark(state);
    put(this.text, titleOf(row));
    this.#updateMeta(row, state);
    put(this.why, inLocalTime(whyOf(row)));
    this.why.hidden = this.why.textContent === "";
    this.#updateSide(row, state);
    this.tick();
  }

  #setMark(state) {
    this.#mark = state;
    this.element.dataset.mark = state;
    this.#icons[state] ??= icon(state);
    this.markPlace.replaceChildren(this.#icons[state]);
  }

  #updateMeta(row, state) {
    put(this.kind, `${kindOf(row)} #${row.number}`);
    put(this.state, `${state}, `);
    put(this.project, row.project);
    const place = placeOf(row);
    this.placeBox.hidden = !place;
    if (place) {
      put(this.place, place.text);
      this.placeBox.title = plain(`${place.label} ${place.text}`);
      if (this.#placeIcon !== place.icon) this.#setPlaceMark(place);
    }
    put(this.author, row.author);
    this.author.hidden = !row.author;
  }

  #setPlaceMark({ icon: name, label }) {
    this.#placeIcon = name;
    this.placeMark.replaceChildren(icon(name), unseen(`${label} `));
  }

  #updateSide(row, state) {
    this.priority.hidden = !(row.priority > PLAIN_PRIORITY);
    this.priority.title = `Priority ${row.priority}`;
    const shown = row.state === "finished" || state === "stopping";
    this.result.hidden = !shown;
    put(this.result, !shown ? "" : row.flaky ? `${state} (flaky)` : state);
    this.result.title = row.flaky ? "A job passed only when it was tried again" : "";
    put(this.boxes, `${amount(row.boxes ?? 0)} ${row.boxes === 1 ? "Box" : "Boxes"}`);
    put(this.created, moment(row.created_at));
    this.created.dateTime = row.created_at ?? "";
    this.created.title = `created ${exactly(row.created_at)}`;
    const cancels = row.state === "registered" || row.state === "queued";
    put(this.stop, cancels ? "Cancel" : "Stop");
    const deploys = row.kind === "deploy";
    onlyWith(deploys ? "operate" : "stop", this.stop);
    onlyWith(deploys ? "deploy" : "submit", this.again);
    this.stop.hidden = row.state === "finished";
    this.stop.disabled = row.asked || state === "stopping";
    this.stop.setAttribute("aria-label", `${cancels ? "Cancel" : "Stop"} ${nameOf(row)}`);
    this.again.hidden = !canBeAgain(row);
    put(this.again, againOf(row));
    this.again.setAttribute("aria-label", `${againOf(row)}: ${nameOf(row)}`);
  }

  /** Update the clock of the displayed state, which may be older than the row's state. */
  tick() {
    const row = this.#shown;
    const clock = clockOf(row);
    this.clock.hidden = !clock;
    if (!clock) return;
    put(this.word, clock.word);
    put(this.time, clock.time);
    if (row.started_at && row.queued_at) this.clock.title = `waited ${span(row.queued_at, row.started_at)} for Boxes`;
    else this.clock.removeAttribute("title");
  }
}

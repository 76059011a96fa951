// A list of items on the pages of servers, pauses and notifications. An unchanged item keeps its
// elements, so that the user's selection and focus stay.

import { icon } from "./icons.js";
import { make, put } from "./text.js";
import { exactly, moment, since } from "./times.js";

/** Children of `element`, one for each item; an item that has changed is built again. */
export class Things {
  #element;
  #build;
  #shown = new Map(); // by key: {text, node}

  /** build(thing) makes the element. */
  constructor(element, build) {
    this.#element = element;
    this.#build = build;
  }

  /** Show [key, thing] pairs in their order. */
  show(pairs) {
    const focus = focusWithin(this.#element);
    const kept = new Map();
    for (const [key, thing] of pairs) {
      const text = JSON.stringify(thing);
      const before = this.#shown.get(key);
      const same = before?.text === text;
      kept.set(key, same ? before : { text, node: this.#build(thing) });
      kept.get(key).node.dataset.key = key;
    }
    this.#shown = kept;
    const nodes = [...kept.values()].map(({ node }) => node);
    const old = [...this.#element.children];
    if (nodes.length !== old.length || nodes.some((node, at) => node !== old[at])) {
      this.#element.replaceChildren(...nodes);
      focus?.restore();
    }
  }
}

/** Return a function that restores the focus to the same button of the same item; null if it is elsewhere. */
function focusWithin(element) {
  const node = document.activeElement;
  if (!element.contains(node) || node === element) return null;
  const keys = [];
  for (let at = node; at !== element; at = at.parentElement) if (at.dataset.key) keys.unshift(at.dataset.key);
  const { act } = node.dataset;
  return {
    restore() {
      if (element.contains(document.activeElement) && document.activeElement !== element) return;
      let found = element;
      for (const key of keys) found = [...(found?.querySelectorAll("[data-key]") ?? [])].find((one) => one.dataset.key === key);
      const again = act ? found?.querySelector(`[data-act="${act}"]`) : null;
      (again ?? document.getElementById("view")).focus({ preventScroll: true });
    },
  };
}

/** An element with text from outside. */
export function outside(text, className = "") {
  const node = make("bdi", className);
  put(node, text);
  return node;
}

export function button(text, act, onClick, className = "quiet") {
  const node = make("button", className, text);
  node.type = "button";
  node.dataset.act = act;
  node.addEventListener("click", onClick);
  return node;
}

/** A time of day, and how long ago that was. */
export function timeOf(time) {
  const node = make("time", "", moment(time));
  node.dateTime = time;
  node.title = exactly(time);
  return node;
}

export function agoOf(time) {
  const node = make("time", "", `${since(time)} ago`);
  node.dateTime = time;
  node.dataset.since = time;
  node.title = exactly(time);
  return node;
}

/** A link to a workload in the lists. */
export function linkTo(id, text) {
  const node = make("a");
  node.href = `/#${encodeURIComponent(id)}`;
  put(node, text);
  return node;
}

export function badge(text, className = "badge") {
  return make("span", className, text);
}

export function markOf(name) {
  const mark = make("span", "mark", icon(name));
  mark.dataset.mark = name;
  return mark;
}

/** Show a text of the page; parts between backticks become code. */
export function withCode(text) {
  return text.split("`").map((part, at) => (at % 2 ? make("code", "code", part) : part));
}

/** A paragraph that is shown in place of an empty list. */
export function nothing(text) {
  return make("p", "nothing", ...withCode(text));
}

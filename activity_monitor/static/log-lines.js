// The last 5,000 lines of a log, in blocks of a hundred. If too many lines arrive in one frame, a
// block creates its lines only when it is nearly visible or the browser is idle.

import { make, put } from "./text.js";

const MAX_LINES = 5000;
const BLOCK_LINES = 100;
const AT_ONCE = 3 * BLOCK_LINES; // more than fits on any screen
const NEAR = "600px";
const NEAR_END_PIXELS = 24;
const UPWARDS = new Set(["ArrowUp", "PageUp", "Home"]);
const whenIdle = globalThis.requestIdleCallback ?? ((work) => setTimeout(work, 250));

export class LogLines {
  /** The number of all lines so far, and of those that are kept. */
  total = 0;
  kept = 0;
  #blocks = [];
  #openLine = null;
  #following = true;
  #onFollowing;
  #later = new Set();
  #idle = false;
  #sight;

  /** onFollowing(bool): the box starts or stops following the end, because the user scrolled. */
  constructor(labelledBy, onFollowing) {
    this.#onFollowing = onFollowing;
    this.element = make("div", "log-lines");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "region");
    this.element.setAttribute("aria-labelledby", labelledBy);
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.element.addEventListener("wheel", (event) => { if (event.deltaY < 0) this.#let(false); }, { passive: true });
    this.element.addEventListener("keydown", (event) => { if (UPWARDS.has(event.key)) this.#let(false); });
    this.#sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) if (isIntersecting) this.#fill(target);
    }, { root: this.element, rootMargin: NEAR });
  }

  /** Add complete lines, and the incomplete one ([] for none). */
  append(lines, open) {
    this.#openLine?.remove();
    const late = lines.length - AT_ONCE;
    lines.forEach((line, at) => this.#add(line, at < late));
    while (this.kept - BLOCK_LINES >= MAX_LINES) this.#forget(this.#blocks.shift());
    this.#openLine = open.length ? lineElement(open, this.total + 1) : null;
    if (this.#openLine) this.element.append(this.#openLine);
    if (this.#following) this.toEnd();
    if (this.#later.size) this.#fillWhenIdle();
  }

  /** Count lines that were dropped before they could be shown. */
  skip(number) {
    this.total += number;
  }

  clear() {
    for (const block of this.#blocks) this.#forget(block);
    this.#blocks = [];
    this.total = this.kept = 0;
    this.#openLine = null;
    this.element.replaceChildren();
  }

  get following() {
    return this.#following;
  }

  set following(following) {
    this.#following = following;
    if (following) this.toEnd();
  }

  toEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  #add(line, late) {
    if (this.kept % BLOCK_LINES === 0) {
      const element = make("div", "log-block");
      this.#blocks.push({ element, first: this.total + 1, lines: late ? [] : null });
      this.element.append(element);
      if (late) this.#wait(this.#blocks.at(-1));
    }
    const block = this.#blocks.at(-1);
    this.total += 1;
    this.kept += 1;
    if (block.lines) block.lines.push(line);
    else block.element.append(lineElement(line, this.total));
  }

  #wait(block) {
    block.element.classList.add("later");
    this.#later.add(block);
    this.#sight.observe(block.element);
  }

  #fill(element) {
    for (const block of this.#later) if (block.element === element) this.#make(block);
  }

  #make(block) {
    block.element.append(...block.lines.map((line, at) => lineElement(line, block.first + at)));
    block.lines = null;
    this.#done(block);
  }

  #done(block) {
    block.element.classList.remove("later");
    this.#later.delete(block);
    this.#sight.unobserve(block.element);
  }

  #forget(block) {
    this.#done(block);
    block.element.remove();
    this.kept -= block.lines ? block.lines.length : block.element.childElementCount;
  }

  #fillWhenIdle() {
    if (this.#idle) return;
    this.#idle = true;
    whenIdle(() => {
      this.#idle = false;
      const block = [...this.#later].at(-1);
      if (!block || !this.element.isConnected) return;
      if (this.kept % BLOCK_LINES !== 0 && block === this.#blocks.at(-1)) return; // it is not complete
      this.#make(block);
      if (this.#later.size) this.#fillWhenIdle();
    });
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    this.#let(scrollHeight - scrollTop - clientHeight < NEAR_END_PIXELS);
  }

  /** Detect scrolling by wheel and key events, because new lines may arrive before the scroll event. */
  #let(following) {
    if (following === this.#following) return;
    this.#following = following;
    this.#onFollowing(following);
  }
}

/** Make the element of a line: its number, and a span for each styled part. */
function lineElement(line, number) {
  const node = make("div", "log-line");
  node.dataset.n = number;
  if (line.length === 1 && !line[0].style) put(node, line[0].text);
  else node.append(...line.map(partElement));
  return node;
}

function partElement({ text, style }) {
  const part = make("span", style);
  put(part, text);
  return part;
}

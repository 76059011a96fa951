// Insert text from outside into the page: always as text, with all its characters visible.
//
// Control characters and characters that change the writing direction are shown by name, because
// they can make a branch or a command look like another one.

const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/;
const ODD_OR_NOT = new RegExp(`(${ODD.source})`);
const CONTROL_PICTURES = 0x2400;
const shown = new WeakMap();

/** Show `text` in `node` instead of its content; do nothing if it is the same text. */
export function put(node, text) {
  const value = text === null || text === undefined ? "" : String(text);
  if (shown.get(node) === value) return;
  shown.set(node, value);
  if (ODD.test(value)) node.replaceChildren(...visible(value));
  else node.textContent = value;
}

function visible(value) {
  return value.split(ODD_OR_NOT).map((part, at) => {
    if (at % 2 === 0) return document.createTextNode(part);
    const mark = make("span", "odd");
    mark.textContent = nameOf(part);
    return mark;
  });
}

function nameOf(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCharCode(CONTROL_PICTURES + code);
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** The same for attributes with text, such as a title or a label. */
export function plain(text) {
  return text.replace(new RegExp(ODD.source, "g"), nameOf);
}

/** An element with a class and children (nodes, or texts of our own). */
export function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Text for screen readers only. */
export function unseen(text) {
  return make("span", "unseen", text);
}

/** "1 Box", "4 Boxes", "9,800 rows". */
export function count(number, one, many) {
  return `${amount(number)} ${number === 1 ? one : many}`;
}

const numbers = new Intl.NumberFormat("en");

export function amount(number) {
  return numbers.format(number);
}

/** The first line of a message, without spaces at its ends; "" for none. */
export function firstLine(message) {
  return (message ?? "").trimStart().split(/[\r\n\u2028\u2029]/, 1)[0].trim();
}

// A dialog with a form, made by script: fields with labels, an error message, and two buttons.

import { make, put } from "./text.js";

let made = 0;

export class FormDialog {
  element = make("dialog", "card");
  form = make("form", "fields");
  problem = make("p", "problem");
  confirm = make("button", "primary");
  #title = make("h2");

  /** parts: the form's elements. onSubmit(values): the form's values by name. */
  constructor(confirm, parts, onSubmit) {
    made += 1;
    this.#title.id = `dialog-title-${made}`;
    this.element.setAttribute("aria-labelledby", this.#title.id);
    this.problem.setAttribute("role", "alert");
    this.confirm.append(confirm);
    const leave = make("button", "quiet", "Leave it");
    leave.type = "button";
    leave.addEventListener("click", () => this.element.close());
    this.form.append(...parts, this.problem, make("div", "buttons", leave, this.confirm));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      onSubmit(Object.fromEntries(new FormData(this.form)));
    });
    this.element.append(this.#title, this.form);
    document.body.append(this.element);
  }

  open(title) {
    put(this.#title, title);
    put(this.problem, "");
    this.confirm.disabled = false;
    this.element.showModal();
  }

  close() {
    this.element.close();
  }
}

/** A field with its label around it. */
export function field(label, control) {
  return make("label", "", label, " ", control);
}

export function input(name, type, more = {}) {
  const node = make("input");
  return Object.assign(node, { name, type, ...more });
}

export function select(name, options = []) {
  const node = make("select");
  node.name = name;
  setOptions(node, options);
  return node;
}

/** Replace the options, [value, text] each; the chosen one stays if it still exists. */
export function setOptions(node, options) {
  const before = node.value;
  node.replaceChildren(...options.map(([value, text]) => {
    const option = make("option");
    option.value = value;
    put(option, text);
    return option;
  }));
  if (options.some(([value]) => value === before)) node.value = before;
}

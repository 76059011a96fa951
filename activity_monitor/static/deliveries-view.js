// The deliveries of code hosts with their results, newest first.

import { get } from "./api.js";
import { Things, agoOf, button, linkTo, markOf, nothing, outside, withCode } from "./things.js";
import { amount, make } from "./text.js";

const RESULTS = [
  ["", "All"], ["created", "Created"], ["canceled", "Canceled"], ["duplicate", "Duplicates"], ["ignored", "Ignored"],
];
const MARKS = { created: "passed", canceled: "canceled", duplicate: "stopped", ignored: "upcoming" };
const PAGE = 50;
const MOST = 500; // shown deliveries at most
const WORKLOADS_SHOWN = 5; // workloads shown for one delivery

export class DeliveriesView {
  changesByItself = true; // no event says that one was ignored
  #on;
  #result = given("result");
  #project = given("project");
  #many = PAGE;
  #list = make("ul", "things");
  #things = new Things(this.#list, build);
  #empty = nothing("");
  #more = button("Show older ones", "more", () => this.#showMore(), "more");
  #choices = new Map();

  constructor(place, on) {
    this.#on = on;
    if (!RESULTS.some(([result]) => result === this.#result)) this.#result = "";
    const choices = make("div", "choices", ...RESULTS.map(([result, text]) => {
      const choice = button(text, `result-${result}`, () => this.#choose(result));
      this.#choices.set(result, choice);
      return choice;
    }));
    choices.setAttribute("role", "group");
    choices.setAttribute("aria-label", "Only those that are");
    this.#more.hidden = this.#empty.hidden = true;
    place.append(make("div", "view-head", choices, this.#filter()), this.#list, this.#empty, this.#more);
    this.#mark();
  }

  forget() {} // it keeps nothing

  changedBy(event) {
    return event.type === "workload.registered";
  }

  async load() {
    const asked = [this.#result, this.#project].join();
    const found = [];
    let cursor = null;
    do {
      const { body } = await get(`/deliveries?${this.#query({ limit: String(PAGE), ...(cursor && { cursor }) })}`);
      found.push(...body.deliveries);
      cursor = body.next_cursor;
    } while (cursor && found.length < this.#many);
    if (asked !== [this.#result, this.#project].join()) return; // the user has chosen another filter in the meantime
    this.#things.show(found.map((one) => [one.id, one]));
    this.#list.hidden = found.length === 0;
    this.#empty.hidden = found.length > 0;
    this.#empty.replaceChildren(...withCode(this.#result || this.#project ? "No delivery matches."
      : "There are no deliveries yet. Set a project's `webhook_secret`, and add a webhook at its code host."));
    this.#more.hidden = !cursor || this.#many >= MOST;
  }

  #query(more = {}) {
    const { ...query } = more;
    if (this.#project) query.project = this.#project;
    if (this.#result) query.result = this.#result;
    return new URLSearchParams(query);
  }

  #filter() {
    const field = make("input");
    Object.assign(field, {
      type: "search", value: this.#project, placeholder: "Project", maxLength: 63, spellcheck: false,
      autocomplete: "off", autocapitalize: "off",
    });
    field.setAttribute("aria-label", "Only this project");
    field.addEventListener("change", () => {
      this.#project = field.value.trim();
      this.#anew();
    });
    return make("search", "filter", field);
  }

  #choose(result) {
    if (result === this.#result) return;
    this.#result = result;
    this.#anew();
  }

  /** The address contains the filter, so that it can be shared. */
  #anew() {
    this.#many = PAGE;
    const query = String(this.#query());
    history.replaceState(null, "", location.pathname + (query ? `?${query}` : ""));
    this.#mark();
    this.#on.onChanged();
  }

  #showMore() {
    this.#many += PAGE;
    this.#on.onChanged();
  }

  #mark() {
    for (const [result, choice] of this.#choices) choice.setAttribute("aria-pressed", String(result === this.#result));
  }
}

function build(one) {
  const mark = Object.hasOwn(MARKS, one.result) ? MARKS[one.result] : "unknown";
  const title = make("h2", "thing-name", outside(one.project), " ", make("span", "thing-state", outside(one.result)));
  const facts = make("p", "thing-facts", outside(`${one.provider} ${one.event}`), agoOf(one.received_at));
  const main = make("div", "thing-main", title, facts);
  if (one.workloads.length) main.append(workloadsOf(one));
  if (one.reason) main.append(make("p", "thing-note", outside(one.reason)));
  const node = make("li", "thing", markOf(mark), main);
  node.dataset.mark = mark;
  return node;
}

function workloadsOf(one) {
  const shown = one.workloads.slice(0, WORKLOADS_SHOWN).flatMap((id, at) => [linkTo(id, nameOf(one, at)), " "]);
  const left = one.workloads.length - WORKLOADS_SHOWN;
  return make("p", "thing-what", ...shown, ...(left > 0 ? [`and ${amount(left)} more`] : []));
}

/** The name that users know: project and number. The id, if the workload was deleted. */
function nameOf({ project, workloads, numbers }, at) {
  return numbers?.[at] ? `${project}#${numbers[at]}` : workloads[at];
}

function given(name) {
  return new URLSearchParams(location.search).get(name) ?? "";
}

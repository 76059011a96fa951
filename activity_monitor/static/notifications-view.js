// The notifications to code hosts and hooks: delivered, waiting and dead.

import { get } from "./api.js";
import { Asking } from "./asking.js";
import { onlyWith } from "./rights.js";
import { Things, agoOf, button, linkTo, markOf, nothing, outside, timeOf, withCode } from "./things.js";
import { count, make, plain } from "./text.js";

const STATES = [["", "All"], ["waiting", "Waiting"], ["delivered", "Delivered"], ["dead", "Given up"]];
const MARKS = { waiting: "upcoming", delivered: "passed", dead: "failed" };
const WORDS = { waiting: "waits", delivered: "delivered", dead: "given up" };
const PAGE = 50;
const MOST = 500; // notifications in one page
const PARAMETER = "state";

export class NotificationsView {
  changesByItself = true; // no event says that one was delivered
  #on;
  #asking;
  #state = stateOf();
  #many = PAGE;
  #list = make("ul", "things");
  #things = new Things(this.#list, (one) => this.#build(one));
  #empty = nothing("");
  #more = button("Show older ones", "more", () => this.#showMore(), "more");
  #choices = new Map();

  constructor(place, on) {
    this.#on = on;
    this.#asking = new Asking(on);
    const choices = make("div", "choices", ...STATES.map(([state, text]) => {
      const choice = button(text, `state-${state}`, () => this.#choose(state));
      this.#choices.set(state, choice);
      return choice;
    }));
    choices.setAttribute("role", "group");
    choices.setAttribute("aria-label", "Only those that are");
    this.#more.hidden = this.#empty.hidden = true;
    place.append(make("div", "view-head", choices), this.#list, this.#empty, this.#more);
    this.#mark();
  }

  forget() {} // it keeps nothing

  changedBy(event) {
    return event.type.startsWith("workload.");
  }

  async load() {
    const state = this.#state;
    const found = [];
    let cursor = null;
    do {
      const query = new URLSearchParams({ limit: String(PAGE), ...(state && { state }), ...(cursor && { cursor }) });
      const { body } = await get(`/notifications?${query}`);
      found.push(...body.notifications);
      cursor = body.next_cursor;
    } while (cursor && found.length < this.#many);
    if (state !== this.#state) return; // the user has chosen another filter in the meantime
    this.#things.show(found.map((one) => [one.id, one]));
    this.#list.hidden = found.length === 0;
    this.#empty.hidden = found.length > 0;
    this.#empty.replaceChildren(...withCode(state ? `There are none that are ${WORDS[state]}.`
      : "Nothing was sent yet: give a project `statuses` or `hooks`."));
    this.#more.hidden = !cursor || this.#many >= MOST;
  }

  #choose(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#many = PAGE;
    history.replaceState(null, "", location.pathname + (state ? `?${PARAMETER}=${state}` : ""));
    this.#mark();
    this.#on.onChanged();
  }

  #showMore() {
    this.#many += PAGE;
    this.#on.onChanged();
  }

  #mark() {
    for (const [state, choice] of this.#choices) choice.setAttribute("aria-pressed", String(state === this.#state));
  }

  #build(one) {
    const of = make("span", "", linkTo(one.workload, nameOf(one)));
    const to = make("span", "", "to ", outside(`${one.provider ?? one.kind} ${one.host}`));
    to.title = plain(one.url ?? one.host);
    const facts = make("p", "thing-facts", to, make("span", "", count(one.attempts, "try", "tries")), agoOf(one.at));
    if (one.next_try_at && one.attempts) facts.append(make("span", "", "next try ", timeOf(one.next_try_at)));
    if (one.signed === false) facts.append(make("span", "", "not signed: the hook has no secret"));
    if (one.status) facts.append(make("span", "", `answer ${one.status}`));
    const title = make("h2", "thing-name", outside(one.event), " ", make("span", "thing-state", WORDS[one.state] ?? one.state));
    const main = make("div", "thing-main", title, make("p", "thing-what", of), facts);
    if (one.error) main.append(make("p", "thing-error", outside(one.error)));
    const parts = [markOf(MARKS[one.state] ?? "unknown"), main];
    if (one.state !== "waiting" || one.attempts) parts.push(this.#resend(one));
    const node = make("li", "thing", ...parts);
    node.dataset.mark = MARKS[one.state] ?? "unknown";
    return node;
  }

  #resend(one) {
    const path = `/notifications/${encodeURIComponent(one.id)}/resend`;
    const node = button(one.state === "waiting" ? "Send now" : "Send again", "resend", () => this.#asking.post(
      path, "", null, node, `${one.event} of ${nameOf(one)} is sent again.`,
    ));
    node.setAttribute("aria-label", plain(`${node.textContent}: ${one.event} of ${nameOf(one)} to ${one.host}`));
    return onlyWith("operate", node);
  }
}

/** The workload, as people know it. */
function nameOf({ project, number, workload }) {
  return number ? `${project}#${number}` : workload;
}

function stateOf() {
  const asked = new URLSearchParams(location.search).get(PARAMETER) ?? "";
  return STATES.some(([state]) => state === asked) ? asked : "";
}

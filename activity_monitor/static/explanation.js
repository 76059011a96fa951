// Why an open row waits, according to the service's explanation.

import { onlyWith } from "./rights.js";
import { amount, count, make, put } from "./text.js";
import { ahead, exactly, inLocalTime, moment, now } from "./times.js";
import { kindOf } from "./words.js";

export class ExplanationView {
  #text = make("p", "explanation-text", "Loading the reason …");
  #facts = make("dl", "facts");
  #ahead = make("ul", "ahead");
  #aheadTitle = make("h4", "", "Blocked by");
  #clocks = [];

  /** rowOf(): the workload that waits. */
  constructor(rowOf) {
    this.element = make("section", "explanation", make("h3", "", "Why it waits"), this.#text, this.#facts,
      this.#aheadTitle, this.#ahead, make("p", "", bumpButton(rowOf)));
    this.#aheadTitle.hidden = true;
  }

  /** Show an answer of /workloads/{id}/explanation. */
  show(explanation) {
    this.#clocks = [];
    put(this.#text, inLocalTime(explanation.text));
    this.#facts.replaceChildren(...facts(explanation).flatMap(([name, value, title]) => {
      const term = make("dt", "", name);
      const said = make("dd");
      if (typeof value === "function") this.#clock(said, value);
      else put(said, value);
      if (title) said.title = title;
      return [term, said];
    }));
    const blockers = explanation.blocked_by ?? [];
    this.#aheadTitle.hidden = blockers.length === 0;
    this.#ahead.replaceChildren(...blockers.map((one) => this.#blocker(one)));
  }

  /** Update the times in the text. */
  tick() {
    for (const show of this.#clocks) show();
  }

  /** Show that the explanation is not available. */
  fail(message) {
    put(this.#text, message);
  }

  #clock(node, text) {
    const show = () => put(node, text());
    this.#clocks.push(show);
    show();
  }

  #blocker(workload) {
    const link = make("a");
    link.href = `#${encodeURIComponent(workload.id)}`;
    put(link, `${kindOf(workload)} #${workload.number}`);
    const project = make("bdi");
    put(project, workload.project);
    const end = make("span");
    if (workload.boxes) this.#clock(end, () => ` holds ${count(workload.boxes, "Box", "Boxes")}${endOf(workload)}`);
    return make("li", "", link, " of ", project, end);
  }
}

/** The button that asks for another priority; it sends the event "bump" upward. */
function bumpButton(rowOf) {
  const button = onlyWith("operate", make("button", "quiet bump", "Change its priority …"));
  button.type = "button";
  button.addEventListener("click", () => {
    button.dispatchEvent(new CustomEvent("bump", { bubbles: true, detail: rowOf() }));
  });
  return button;
}

function facts({ position, overtaken_by: overtaken, promised_start: promised, expected_start: start, needs, free }) {
  const result = [];
  if (position !== null && position !== undefined) result.push(["Place in the queue", amount(position)]);
  if (overtaken) result.push(["Went ahead", `${amount(overtaken)} that came later`]);
  if (promised && Date.parse(promised) < now()) {
    result.push(["First expected", () => `${moment(promised)}, ${ahead(promised)}`, exactly(promised)]);
  }
  if (start) result.push(["Expected start", () => `${moment(start)}, ${ahead(start)}`, exactly(start)]);
  if (needs && Object.keys(needs).length) result.push(["Asks for", boxes(needs)]);
  if (free && Object.keys(free).length) result.push(["Free now", boxes(free)]);
  return result;
}

function boxes(types) {
  const entries = Object.entries(types);
  if (entries.length === 1) return count(entries[0][1], "Box", "Boxes");
  return entries.map(([type, number]) => `${amount(number)} ${type}`).join(", ");
}

/** The expected end according to usual durations; if it has passed, the end at the time limit. */
function endOf({ usual_end: usual, expected_end: end }) {
  if (!usual) return end ? `, expected to end ${moment(end)} (${ahead(end)})` : "";
  const late = ahead(usual).endsWith("overdue");
  const said = `, expected to end ${moment(usual)} (${ahead(usual)})`;
  return late && end && Date.parse(end) > Date.parse(usual) ? `${said}, at the latest ${moment(end)}` : said;
}

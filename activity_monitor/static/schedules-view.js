// The schedules of all projects: their next times, their last builds, and skipped times.

import { get } from "./api.js";
import { Things, badge, button, linkTo, markOf, nothing, outside, timeOf } from "./things.js";
import { make } from "./text.js";
import { inLocalTime } from "./times.js";
import { stateOf } from "./words.js";

const PAGE = 100;
const MOST = 1000; // schedules in one page

export class SchedulesView {
  changesByItself = true; // times come
  #on;
  #many = PAGE;
  #list = make("ul", "things");
  #things = new Things(this.#list, build);
  #empty = nothing("No project has schedules. Give one `schedules`: builds of a branch at certain times.");
  #more = button("Show more", "more", () => this.#showMore(), "more");

  constructor(place, on) {
    this.#on = on;
    this.#more.hidden = this.#empty.hidden = true;
    const intro = make("p", "", "Each time of a schedule has at most one build. Times are in this browser's time zone.");
    place.append(make("div", "view-head", intro), this.#list, this.#empty, this.#more);
  }

  forget() {} // it keeps nothing

  changedBy(event) {
    return event.type.startsWith("project.") || event.type.startsWith("workload.");
  }

  async load() {
    const found = [];
    let cursor = null;
    do {
      const query = new URLSearchParams({ limit: String(PAGE), ...(cursor && { cursor }) });
      const { body } = await get(`/schedules?${query}`);
      found.push(...body.schedules);
      cursor = body.next_cursor;
    } while (cursor && found.length < this.#many);
    this.#things.show(found.map((one) => [JSON.stringify([one.project, one.cron, one.time_zone, one.branch]), one]));
    this.#list.hidden = found.length === 0;
    this.#empty.hidden = found.length > 0;
    this.#more.hidden = !cursor || this.#many >= MOST;
  }

  #showMore() {
    this.#many += PAGE;
    this.#on.onChanged();
  }
}

function build(one) {
  const title = make("h2", "thing-name", outside(one.project), " ", outside(one.branch, "code"));
  const what = make("p", "thing-what", outside(one.text), " ", badge(one.time_zone));
  what.title = one.cron;
  const times = one.next.flatMap((time, at) => (at ? [", ", timeOf(time)] : [timeOf(time)]));
  const facts = make("p", "thing-facts", outside(one.cron, "code"), make("span", "", "next ", ...times));
  const main = make("div", "thing-main", title, what, facts);
  if (one.last) main.append(lastOf(one.last));
  if (one.skipped) {
    main.append(make("p", "thing-error", "no build since ", timeOf(one.skipped.at), ": ", outside(inLocalTime(one.skipped.reason))));
  }
  return make("li", "thing", markOf(markFor(one)), main);
}

function lastOf(last) {
  const node = make("p", "thing-facts", make("span", "", "last ", timeOf(last.at)));
  if (last.workload) node.append(make("span", "", linkTo(last.workload, `#${last.number}`), ` ${stateOf(last)}`));
  return node;
}

function markFor({ last }) {
  return last?.workload ? stateOf(last) : "upcoming";
}

// The pauses: what they cover, their reasons, who began them, and when they end.

import { get } from "./api.js";
import { Asking } from "./asking.js";
import { PauseDialog } from "./pause-dialog.js";
import { ResumeDialog, covers, resumeButton } from "./resume.js";
import { onlyWith } from "./rights.js";
import { Things, agoOf, button, markOf, nothing, outside, timeOf } from "./things.js";
import { make } from "./text.js";

export class PausesView {
  changesByItself = true; // a pause ends by its time
  #list = make("ul", "things");
  #empty = nothing("Nothing is paused: waiting workloads start when their Boxes are free.");
  #things = new Things(this.#list, (pause) => this.#build(pause));
  #resume;

  /** on: onChanged(), onSignedOut(). */
  constructor(place, on) {
    const asking = new Asking(on);
    const dialog = new PauseDialog(asking);
    this.#resume = new ResumeDialog(asking);
    const add = onlyWith("operate", button("Pause …", "pause", () => dialog.ask(), "primary"));
    const intro = make("p", "", "Workloads that a pause covers do not start. Running workloads continue.");
    this.#empty.hidden = true;
    place.append(make("div", "view-head", intro, add), this.#list, this.#empty);
  }

  forget() {} // it keeps nothing

  changedBy(event) {
    return event.type.startsWith("pause.") || event.type === "project.deleted";
  }

  async load() {
    const { body } = await get("/pauses");
    this.#things.show(body.pauses.map((pause) => [pause.name, pause]));
    this.#list.hidden = body.pauses.length === 0;
    this.#empty.hidden = body.pauses.length > 0;
  }

  #build(pause) {
    const end = pause.until ? make("span", "", "until ", timeOf(pause.until)) : make("span", "", "until it is resumed");
    const facts = make("p", "thing-facts", make("span", "", "by ", outside(pause.by)), agoOf(pause.since), end);
    const head = make("h2", "thing-name", outside(pause.name));
    const main = make("div", "thing-main", head, make("p", "thing-what", covers(pause)),
      make("p", "thing-note", outside(pause.note)), facts);
    return make("li", "thing", markOf("blocked"), main, resumeButton(pause, this.#resume));
  }
}

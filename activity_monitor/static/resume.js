// End a pause: a dialog says what will be resumed, and asks. The pause may cover more than the thing
// next to the button: for example everything, if the button is next to one server.

import { FormDialog } from "./form-dialog.js";
import { onlyWith } from "./rights.js";
import { badge, button, outside } from "./things.js";
import { make, plain, put } from "./text.js";

export class ResumeDialog {
  #asking;
  #what = make("p", "fields-text");
  #note = make("p", "thing-note");
  #dialog;
  #pause = null;

  constructor(asking) {
    this.#asking = asking;
    this.#dialog = new FormDialog("Resume", [this.#note, this.#what], () => this.#resume());
  }

  ask(pause) {
    this.#pause = pause;
    this.#note.replaceChildren(outside(pause.note), " ",
      make("span", "thing-by", "(", outside(pause.name), ", by ", outside(pause.by), ")"));
    const one = pause.server || pause.branch;
    put(this.#what, `This ends the pause ${pause.name} of ${whatOf(pause)}${one ? "" : ", not only of one server or branch"}. `
      + "What waits for it can start at once, unless another pause covers it.");
    this.#dialog.open(`Resume ${whatOf(pause)}?`);
  }

  async #resume() {
    const { name } = this.#pause;
    const problem = await this.#asking.remove(
      `/pauses/${encodeURIComponent(name)}`, this.#dialog.confirm, `The pause ${name} has ended.`,
    );
    put(this.#dialog.problem, problem);
    if (!problem) this.#dialog.close();
  }
}

/** Opens the dialog. */
export function resumeButton(pause, dialog) {
  const node = onlyWith("operate", button("Resume …", "resume", () => dialog.ask(pause)));
  node.setAttribute("aria-label", plain(`Resume: end the pause ${pause.name}`));
  return node;
}

/** What a pause covers, in words. */
export function covers(pause) {
  const what = make("span");
  if (!pause.project) what.append("everything");
  else if (pause.branch) what.append("builds of ", outside(pause.branch, "code"), " in ", outside(pause.project));
  else if (pause.server) what.append("deploys of ", outside(pause.project), " to ", outside(pause.server));
  else what.append("all of ", outside(pause.project));
  if (pause.automatic) what.append(" ", badge("automatic deploys only"));
  return what;
}

/** The same as a text, for a title. */
function whatOf({ project, branch, server, automatic }) {
  const deploys = automatic ? "automatic deploys" : "deploys";
  if (server) return `${deploys} of ${project} to ${server}`;
  if (branch) return `builds of ${branch} in ${project}`;
  if (automatic) return project ? `all ${deploys} of ${project}` : `all ${deploys} of all projects`;
  return project ? `all of ${project}` : "everything";
}

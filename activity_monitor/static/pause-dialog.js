// A dialog for a new pause: what it covers, its reason and its end.

import { get } from "./api.js";
import { FormDialog, field, input, select, setOptions } from "./form-dialog.js";
import { make, put } from "./text.js";
import { now } from "./times.js";

const WHAT = [
  ["all", "everything"], ["project", "a project"], ["branch", "builds of branches"], ["server", "deploys to a server"],
];
const ENDS = [
  ["", "when it is resumed"], ["30", "in 30 minutes"], ["120", "in 2 hours"], ["1440", "in a day"], ["at", "at a time"],
];
const MINUTE_MS = 60000;
const NOTE_CHARACTERS = 500;

export class PauseDialog {
  #asking;
  #what = select("what", WHAT);
  #project = select("project");
  #branch = input("branch", "text", { maxLength: 255, placeholder: "release/*" });
  #server = select("server");
  #automatic = input("automatic", "checkbox");
  #ends = select("ends", ENDS);
  #until = input("until", "datetime-local");
  #fields;
  #projects = [];
  #dialog;

  constructor(asking) {
    this.#asking = asking;
    this.#fields = {
      project: field("Project", this.#project),
      branch: field("Branches that match", this.#branch),
      server: field("Server", this.#server),
      automatic: make("label", "check", this.#automatic, " Only automatic deploys"),
      until: field("Time", this.#until),
    };
    this.#dialog = new FormDialog("Pause", [
      field("Name", input("name", "text", { required: true, maxLength: 255, autocomplete: "off", autofocus: true })),
      field("Reason, shown to everyone", input("note", "text", { required: true, maxLength: NOTE_CHARACTERS })),
      field("Pause", this.#what), this.#fields.project, this.#fields.branch, this.#fields.server,
      this.#fields.automatic, field("Ends", this.#ends), this.#fields.until,
    ], (values) => this.#pause(values));
    this.#dialog.form.addEventListener("change", () => this.#show());
  }

  async ask() {
    this.#dialog.form.reset();
    this.#show();
    this.#dialog.open("Pause");
    try {
      const { body } = await get("/projects");
      this.#projects = body.projects;
      setOptions(this.#project, this.#projects.map(({ name }) => [name, name]));
      this.#show();
    } catch (error) {
      put(this.#dialog.problem, error.message); // everything can still be paused
    }
  }

  /** Show only the fields that belong to the choice. */
  #show() {
    const what = this.#what.value;
    this.#fields.project.hidden = what === "all";
    this.#fields.branch.hidden = what !== "branch";
    this.#fields.server.hidden = what !== "server";
    this.#fields.automatic.hidden = what === "branch";
    this.#fields.until.hidden = this.#ends.value !== "at";
    this.#branch.required = what === "branch";
    this.#project.required = what !== "all";
    this.#server.required = what === "server";
    this.#until.required = this.#ends.value === "at";
    const chosen = this.#projects.find(({ name }) => name === this.#project.value);
    setOptions(this.#server, Object.keys(chosen?.servers ?? {}).sort().map((name) => [name, name]));
  }

  async #pause({ name, note, what, project, branch, server, automatic, ends, until }) {
    const body = { note, automatic: Boolean(automatic) && what !== "branch" };
    if (what !== "all") body.project = project;
    if (what === "branch") body.branch = branch;
    if (what === "server") body.server = server;
    if (ends) body.until = (ends === "at" ? new Date(until) : new Date(now() + Number(ends) * MINUTE_MS)).toISOString();
    const path = `/pauses/${encodeURIComponent(name)}`;
    const problem = await this.#asking.put(path, body, this.#dialog.confirm, `The pause ${name} has begun.`);
    put(this.#dialog.problem, problem);
    if (!problem) this.#dialog.close();
  }
}

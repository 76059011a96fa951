// Deploy a passed build to a server. A build older than the live one is a rollback.

import { Away, Refused, SignedOut, get, newKey } from "./api.js";
import { FormDialog, field, select, setOptions } from "./form-dialog.js";
import { make, put } from "./text.js";
import { moment } from "./times.js";
import { nameOf, titleOf } from "./words.js";

const BUILDS = 30;

export class DeployDialog {
  #asking;
  #on;
  #build = select("build");
  #text = make("p", "fields-text");
  #dialog;
  #project = "";
  #server = null;
  #key = "";

  constructor(asking, on) {
    this.#asking = asking;
    this.#on = on;
    this.#dialog = new FormDialog("Deploy", [field("Build", this.#build), this.#text], ({ build }) => this.#deploy(build));
    this.#build.required = true;
    this.#build.autofocus = true;
    this.#build.addEventListener("change", () => {
      this.#key = newKey(); // another request
      this.#say();
    });
  }

  async ask(project, server) {
    this.#project = project;
    this.#server = server;
    this.#key = newKey();
    setOptions(this.#build, []);
    put(this.#text, "Loading the passed builds …");
    this.#dialog.open(`Deploy to ${server.name} of ${project}`);
    this.#dialog.confirm.disabled = true;
    const query = new URLSearchParams({ project, kind: "build", result: "passed", limit: String(BUILDS) });
    if (server.guard && server.branch) query.set("branch", server.branch);
    try {
      const { body } = await get(`/workloads?${query}`);
      if (this.#server !== server) return;
      setOptions(this.#build, body.workloads.map((build) => [build.id, this.#named(build)]));
      this.#dialog.confirm.disabled = body.workloads.length === 0;
      this.#say();
    } catch (error) {
      if (error instanceof SignedOut) {
        this.#dialog.close();
        this.#on.onSignedOut();
      } else if (error instanceof Refused || error instanceof Away) {
        put(this.#dialog.problem, error.message);
      } else {
        throw error;
      }
    }
  }

  #named(build) {
    const is = build.id === this.#server.live?.build ? " (live)" : "";
    return `#${build.number} ${titleOf(build)} · ${build.branch ?? build.tag ?? ""} · ${moment(build.finished_at)}${is}`;
  }

  /** Describe the chosen build: newer, the live one again, or older. */
  #say() {
    const live = this.#server.live?.build;
    const chosen = this.#build.value;
    if (!chosen) put(this.#text, "No build has passed yet.");
    else if (!live) put(this.#text, "Nothing is live there yet.");
    else if (chosen === live) put(this.#text, "This build is live: it is deployed once more.");
    else if (isOlder(chosen, live)) {
      put(this.#text, this.#server.strategy === "automatic"
        ? "This build is older than the live one: a rollback. Automatic deploys are paused then, until you resume them."
        : "This build is older than the live one: a rollback.");
    } else put(this.#text, "This build is newer than the live one.");
  }

  async #deploy(build) {
    const path = `/projects/${encodeURIComponent(this.#project)}/deploys`;
    const { name } = this.#server;
    const problem = await this.#asking.post(path, this.#key, { server: name, build }, this.#dialog.confirm, (deploy) => ({
      sentence: `The deploy to ${name} was submitted: `,
      target: { id: deploy.id, text: nameOf(deploy), at: "/" },
    }));
    put(this.#dialog.problem, problem);
    if (!problem) this.#dialog.close();
  }
}

/** Ids count upward. */
function isOlder(id, other) {
  return id.length === other.length ? id < other : id.length < other.length;
}

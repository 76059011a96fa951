// The artifacts of a job: links to the files that it has kept.

import { Away, Refused, get } from "./api.js";
import { amount, make, put } from "./text.js";

const MOST = 200;

export class KeptFiles {
  #job;

  /** `job`: {id}. */
  constructor(job) {
    this.#job = job;
    this.list = make("ul", "kept-files");
    this.title = make("h4", "log-title");
    this.element = make("section", "kept", this.title, this.list);
    this.element.hidden = true;
  }

  /** Ask for the files; the job has ended. Without an answer nothing is shown. Raises SignedOut. */
  async load() {
    const base = `/jobs/${encodeURIComponent(this.#job.id)}/artifacts`;
    let artifacts;
    try {
      ({ artifacts } = (await get(base)).body);
    } catch (error) {
      if (error instanceof Refused || error instanceof Away) return;
      throw error;
    }
    this.element.hidden = artifacts.length === 0;
    const more = artifacts.length > MOST ? `, the first ${amount(MOST)} of ${amount(artifacts.length)}` : "";
    put(this.title, `Artifacts${more}`);
    this.list.replaceChildren(...artifacts.slice(0, MOST).map((file) => {
      const path = make("bdi");
      put(path, file.path);
      const link = make("a", "kept-file", path);
      link.href = `/api/v1${base}/${file.path.split("/").map(encodeURIComponent).join("/")}`;
      link.download = "";
      return make("li", "", link, ` ${amount(file.size)} bytes`);
    }));
  }
}

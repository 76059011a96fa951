// A job's output, live: read as a stream, divided into lines, shown as fast as the browser can.

import { AnsiLines } from "./ansi.js";
import { Refused, SignedOut } from "./api.js";
import { KeptFiles } from "./kept-files.js";
import { LogLines } from "./log-lines.js";
import { readLog } from "./log-reader.js";
import { Pace } from "./pace.js";
import { amount, make, put } from "./text.js";

const PENDING_LINES = 5000; // the limit of lines kept between two frames
const BUSY_MS = 8; // time for dividing output into lines before other work of the page
const WAITING = "Live. Waiting for output …";

export class LogView {
  #job;
  #on;
  #stop = new AbortController();
  #ansi = new AnsiLines();
  #pending = [];
  #pace = new Pace(() => this.#show());
  #busy = 0;
  #said = "";
  #some = false; // there was output

  /** `job`: {id, name}. onSignedOut(): the session has ended. */
  constructor(job, { onSignedOut }) {
    this.#job = job;
    this.#on = { onSignedOut };
    this.#build();
    this.#run();
  }

  /** Stop reading. */
  close() {
    this.#stop.abort();
  }

  #build() {
    const { id, name } = this.#job;
    const job = make("bdi");
    put(job, name);
    const title = make("h4", "log-title", "Output of ", job);
    title.id = `log-title-${id}`;
    this.note = make("p", "log-note", "Reading …");
    this.follow = make("button", "quiet follow", "Follow");
    this.follow.type = "button";
    this.lines = new LogLines(title.id, (following) => this.#showFollowing(following));
    this.follow.addEventListener("click", () => {
      this.lines.following = !this.lines.following;
      this.#showFollowing(this.lines.following);
    });
    this.#showFollowing(true);
    const whole = make("a", "whole", "Whole log");
    whole.href = `/api/v1/jobs/${encodeURIComponent(id)}/log`;
    whole.target = "_blank";
    whole.rel = "noopener";
    const head = make("div", "log-head", title, this.note, this.follow, whole);
    this.files = new KeptFiles(this.#job);
    this.element = make("div", "log", head, this.lines.element, this.files.element);
  }

  /** Read until the job has ended and all its output was read. */
  async #run() {
    const { signal } = this.#stop;
    try {
      const reading = readLog(this.#job.id, { signal, onState: (state) => this.#showState(state) });
      for await (const { text, attempt } of reading) {
        if (attempt || text) await this.#take(attempt ? `\n\u001b[0m--- attempt ${attempt} ---\n` : text);
      }
      this.#say("The output ends here.");
      await this.files.load();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error instanceof SignedOut) {
        this.#on.onSignedOut();
        this.#say("Signed out. Open the log again after signing in.");
      } else if (error instanceof Refused) {
        this.#say(error.status === 404 ? "There is no output yet." : error.message);
      } else {
        throw error;
      }
    }
  }

  #showState(state) {
    if (state === "reconnecting") this.#say("The connection broke. Connecting again …");
    else this.#say(this.#some ? "Live." : WAITING);
  }

  async #take(text) {
    const started = performance.now();
    this.#some = true;
    for (const line of this.#ansi.push(text)) this.#pending.push(line);
    const over = this.#pending.length - PENDING_LINES;
    if (over > 0) {
      this.#pending.splice(0, over);
      this.lines.skip(over);
    }
    this.#pace.ask();
    this.#busy += performance.now() - started;
    if (this.#busy < BUSY_MS) return;
    await new Promise(requestAnimationFrame); // the service waits until we read again
    this.#busy = 0;
  }

  #show() {
    this.lines.append(this.#pending, this.#ansi.open);
    this.#pending = [];
    this.#say(this.#said === WAITING ? "Live." : this.#said);
  }

  #showFollowing(following) {
    this.follow.setAttribute("aria-pressed", String(following));
    this.follow.title = following ? "The newest line stays in sight" : "Go to the newest line, and stay there";
  }

  #say(text) {
    this.#said = text;
    const earlier = this.lines.total - this.lines.kept;
    put(this.note, earlier > 0 ? `${text} ${amount(earlier)} earlier lines are only in the whole log.` : text);
  }
}

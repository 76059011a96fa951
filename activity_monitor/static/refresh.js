// Repeat a request, but not too often: one call at a time; the longer a call takes, the less often.

const LEAST_MS = 2000;
const TIMES_ITS_COST = 10; // ten thousand rows cost the service more than five do
const GATHER_MS = 250;

/** Runs `work` (async) after `ask()`, at most every two seconds, never twice at once. */
export class Refresher {
  #work;
  #least;
  #running = false;
  #wanted = false;
  #timer = 0;
  #earliest = 0;

  constructor(work, least = LEAST_MS) {
    this.#work = work;
    this.#least = least;
  }

  /** Request a call soon. */
  ask() {
    this.#wanted = true;
    if (this.#running || this.#timer) return;
    const wait = Math.max(GATHER_MS, this.#earliest - performance.now());
    this.#timer = setTimeout(() => this.#run(), wait);
  }

  /** Call at once, or right after the current call. */
  now() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#earliest = 0;
    this.#wanted = true;
    if (!this.#running) this.#run();
  }

  /** Cancel requested calls. */
  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#wanted = false;
  }

  async #run() {
    this.#timer = 0;
    this.#wanted = false;
    this.#running = true;
    const started = performance.now();
    try {
      await this.#work();
    } finally {
      const ended = performance.now();
      this.#earliest = ended + Math.max(this.#least, TIMES_ITS_COST * (ended - started));
      this.#running = false;
      if (this.#wanted) this.ask();
    }
  }
}

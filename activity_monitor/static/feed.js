// The stream of events, read by fetch: EventSource cannot distinguish a 401 from a lost connection,
// and cannot send the first id. It resumes by Last-Event-ID, so that no event is missed or repeated;
// an id is valid on every node of the service.

import { Away, Refused, SignedOut, open } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const SETTLED_MS = 5000; // a stream that ended sooner and without an event counts as failed
const SILENCE_MS = 60000; // longer than the interval of the service's comments
const HIDDEN_MS = 60000; // a browser has six connections to a service, so a hidden page releases its connection

/** Splits a stream of text into SSE messages {id, data}; a chunk may end anywhere. */
export class Messages {
  #rest = "";
  #id = "";
  #data = [];

  /** Return the messages that `text` completes. */
  push(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    const messages = [];
    for (const line of lines) {
      const message = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (message) messages.push(message);
    }
    return messages;
  }

  #line(line) {
    if (line === "") return this.#end();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "id") this.#id = value;
    else if (field === "data") this.#data.push(value);
    return null;
  }

  #end() {
    if (!this.#data.length) return null;
    const message = { id: this.#id, data: this.#data.join("\n") };
    this.#data = [];
    return message;
  }
}

/**
 * Reads events until it is closed.
 * onEvents([{id, data}]): in order, without a gap.
 * onState("live" | "paused"), onState("reconnecting", why): why is a message, or "".
 * onLost(): the service cannot resume from the cursor; it waits until `resume(cursor)`.
 * onSignedOut(): it waits until `resume()`.
 */
export class Feed {
  #cursor;
  #on;
  #stop = null;
  #wake = null;
  #live = false; // a stream is being read
  #hiddenTimer = 0;
  #hidden = false;

  constructor(cursor, on) {
    this.#cursor = cursor;
    this.#on = on;
    document.addEventListener("visibilitychange", () => this.#visibility());
    addEventListener("online", () => this.#wake?.());
    this.#run();
  }

  /** Continue, from `cursor` if it is given. */
  resume(cursor = this.#cursor) {
    this.#cursor = cursor;
    if (this.#live) this.#on.onState("live");
    else this.#wake?.();
  }

  async #run() {
    for (let wait = FIRST_WAIT_MS; ;) {
      if (this.#hidden) { // perhaps only since the last stream ended
        this.#on.onState("paused");
        await this.#sleep();
        continue;
      }
      let why = "";
      try {
        await this.#read(() => { wait = FIRST_WAIT_MS; }); // the connection works
      } catch (error) {
        if (error instanceof SignedOut) {
          this.#on.onSignedOut();
          await this.#sleep();
          continue;
        }
        if (error instanceof Refused) {
          this.#on.onLost();
          await this.#sleep(LONGEST_WAIT_MS);
          continue;
        }
        if (error instanceof Away) why = error.message;
        else if (error.name !== "AbortError") throw error;
      }
      if (this.#hidden) continue;
      this.#on.onState("reconnecting", why);
      await this.#sleep(wait * (0.5 + Math.random()));
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  }

  async #read(works) {
    this.#stop = new AbortController();
    const headers = { Accept: "text/event-stream" };
    if (this.#cursor) headers["Last-Event-ID"] = this.#cursor;
    const response = await open("/events", { headers, signal: this.#stop.signal });
    const opened = performance.now();
    this.#live = true;
    this.#on.onState("live");
    try {
      await this.#follow(response, opened, works);
    } finally {
      this.#live = false;
    }
  }

  async #follow(response, opened, works) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const messages = new Messages();
    for (;;) {
      const silence = setTimeout(() => this.#stop.abort(), SILENCE_MS);
      const { done, value } = await reader.read()
        .catch(() => { throw new Away("The connection broke."); })
        .finally(() => clearTimeout(silence));
      if (performance.now() - opened > SETTLED_MS) works();
      if (done) return;
      const events = messages.push(value);
      if (!events.length) continue;
      works();
      this.#cursor = events.at(-1).id || this.#cursor;
      this.#on.onEvents(events);
    }
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = ms === undefined ? 0 : setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    }).finally(() => { this.#wake = null; });
  }

  #visibility() {
    clearTimeout(this.#hiddenTimer);
    if (document.hidden) {
      this.#hiddenTimer = setTimeout(() => {
        this.#hidden = true;
        this.#stop?.abort();
      }, HIDDEN_MS);
    } else if (this.#hidden) {
      this.#hidden = false;
      this.#wake?.();
    }
  }
}

// Reads a job's output to its end, with any number of requests.
//
// The end of an answer does not mean the end of the output: a proxy, a node that stops or a lost
// connection also ends it. So the reader requests the rest, after its last byte, until three things
// are true: the job has finished, this was its last attempt, and the output is read completely.

import { Away, Refused, open } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const SETTLED_MS = 5000; // an answer that ended sooner and without data counts as failed
const SILENCE_MS = 45000; // the service ends each answer after at most 20 s

/**
 * Yields {text} and {attempt} in order, each byte once; {attempt} marks where another attempt begins.
 * That is a later one, or an earlier one that its worker got back; then it goes on where it was left.
 * onState("live" | "reconnecting"). Raises SignedOut, Refused, AbortError.
 */
export async function* readLog(job, { signal, onState }) {
  const place = { job, attempt: null, offset: 0, left: new Map(), decoder: new TextDecoder() };
  for (let wait = FIRST_WAIT_MS; ;) {
    await shown(signal);
    const began = performance.now();
    const before = place.offset;
    const answer = { head: null };
    let gone = false; // whether the attempt gave way to the one before
    try {
      yield* part(place, answer, signal, onState);
    } catch (error) {
      gone = error instanceof Refused && error.status === 404 && place.attempt > 1;
      if (!gone && !(error instanceof Away)) throw error;
      if (!gone) onState("reconnecting");
    }
    const { head } = answer;
    const all = head !== null && place.offset >= head.size;
    if (gone || (all && head.latest > head.attempt)) {
      yield { text: place.decoder.decode() };
      const last = place.attempt;
      place.left.set(last, place.offset);
      place.attempt = gone ? last - 1 : last + 1;
      place.offset = place.left.get(place.attempt) ?? 0;
      if (last > 0) yield { attempt: place.attempt };
    } else if (all && head.finished) {
      yield { text: place.decoder.decode() };
      return;
    } else if (place.offset > before || performance.now() - began > SETTLED_MS) {
      wait = FIRST_WAIT_MS;
    } else {
      await pause(wait * (0.5 + Math.random()), signal);
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }
}

/** Yield the data of one answer, until it ends. */
async function* part(place, answer, signal, onState) {
  const query = new URLSearchParams({ follow: "1", offset: place.offset });
  if (place.attempt !== null) query.set("attempt", place.attempt);
  const response = await open(`/jobs/${encodeURIComponent(place.job)}/log?${query}`, { signal });
  answer.head = headOf(response);
  place.attempt = answer.head.attempt;
  onState("live");
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await withinTime(reader);
    if (done) return;
    place.offset += value.length;
    yield { text: place.decoder.decode(value, { stream: true }) };
  }
}

async function withinTime(reader) {
  let silent = false;
  const silence = setTimeout(() => {
    silent = true;
    reader.cancel().catch(() => {});
  }, SILENCE_MS);
  try {
    const read = await reader.read();
    if (silent) throw new Away("The service is silent.");
    return read;
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Away) throw error;
    throw new Away("The connection broke.");
  } finally {
    clearTimeout(silence);
  }
}

function headOf({ headers }) {
  const number = (name) => Number.parseInt(headers.get(`Boxsched-${name}`) ?? "", 10);
  const head = {
    finished: headers.get("Boxsched-Job-State") === "finished",
    attempt: number("Attempt"),
    latest: number("Latest-Attempt"),
    size: number("Log-Size"),
  };
  if ([head.attempt, head.latest, head.size].some(Number.isNaN)) {
    throw new Away("The node does not report the length of the log."); // it has an older version
  }
  return head;
}

/** Return when the page is visible: while it is hidden, reading can wait. */
function shown(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
  });
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve(); // the next request raises AbortError
    }, { once: true });
  });
}

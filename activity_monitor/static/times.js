// Times and durations for users, by the service's clock: a browser's clock may be wrong.

const TRUSTED_SKEW_MS = 2000; // a Date header has whole seconds
const DAY_MS = 86400000;
const OVERDUE_SECONDS = 5; // the precision of an estimate
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
});
const yearDayAndClock = new Intl.DateTimeFormat(undefined, {
  year: "numeric", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
});
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
let skewMs = 0;
let heldAt = null;

/** Set the service's clock from an answer. */
export function setClock(response) {
  const theirs = Date.parse(response.headers.get("Date") ?? "");
  if (Number.isNaN(theirs)) return;
  const skew = theirs - Date.now();
  skewMs = Math.abs(skew) > TRUSTED_SKEW_MS ? skew : 0;
}

/** The service's time in milliseconds; while the clock is stopped, the time when it stopped. */
export function now() {
  return heldAt ?? Date.now() + skewMs;
}

/** Stop or continue the clock: without an answer from the service, durations are not known. */
export function holdClock(held) {
  heldAt = held ? now() : null;
}

/** "7 s", "4 min 9 s", "1 h 2 min", "3 d 4 h": from `start` to `end` (RFC 3339), or to now. */
export function span(start, end) {
  const until = end ? Date.parse(end) : now();
  return duration((until - Date.parse(start)) / 1000);
}

/** Format whole seconds in the two largest units that are not zero; no seconds after an hour. */
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (Number.isNaN(s)) return "";
  if (s < 60) return `${s} s`;
  if (s < 3600) return both(Math.floor(s / 60), "min", s % 60, "s");
  const hours = Math.floor(s / 3600);
  if (hours < 48) return both(hours, "h", Math.floor(s / 60) % 60, "min");
  return both(Math.floor(hours / 24), "d", hours % 24, "h");
}

function both(great, unit, small, smallUnit) {
  return small ? `${great} ${unit} ${small} ${smallUnit}` : `${great} ${unit}`;
}

/** "12:03" today, otherwise "3 Mar, 12:03"; with the year if it is not this year. */
export function moment(time) {
  const at = Date.parse(time);
  if (Number.isNaN(at)) return "";
  const today = Math.abs(now() - at) < DAY_MS && new Date(at).getDate() === new Date(now()).getDate();
  const sameYear = new Date(at).getFullYear() === new Date(now()).getFullYear();
  return (today ? clock : sameYear ? dayAndClock : yearDayAndClock).format(at);
}

/** Date, time and time zone, for a title. */
export function exactly(time) {
  const at = Date.parse(time);
  return Number.isNaN(at) ? "" : whole.format(at);
}

/** "40 s", "13 min", "3 h 30 min", "4 d": how long ago a time was. */
export function since(time) {
  return about(Math.max(0, Math.round((now() - Date.parse(time)) / 1000)));
}

/** A duration in words; in whole minutes if it is 90 s or longer. */
function about(seconds) {
  return duration(seconds < 90 ? seconds : 60 * Math.round(seconds / 60));
}

const TIME = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)(?!\w)/g;

/** Convert the times in a sentence of the service, RFC 3339, to the user's time zone. */
export function inLocalTime(text) {
  return text.replace(TIME, (time) => moment(time) || time);
}

/** "in 3 min", "in 40 s", "any moment", "4 min 9 s overdue": the time until an expected time. */
export function ahead(time) {
  const seconds = Math.round((Date.parse(time) - now()) / 1000);
  if (Number.isNaN(seconds)) return "";
  if (seconds <= -OVERDUE_SECONDS) return `${duration(-seconds)} overdue`;
  return seconds < 5 ? "any moment" : `in ${about(seconds)}`;
}

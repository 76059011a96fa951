// The page's own state: Boxes, connection, and messages for screen readers.

import { amount, count, put } from "./text.js";

const byId = (id) => document.getElementById(id);
const WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", paused: "Paused", out: "Signed out" };
const SEGMENTS_AT_MOST = 64; // more Boxes are shown as one bar
const GATHER_MS = 1500;
const FEW = 3;

/** Show the Boxes that get jobs, and separately those whose workers are away, draining or in trouble. */
export function showCapacity({ total, busy: allBusy, away, away_busy: awayBusy }) {
  const there = total - away;
  const busy = Math.max(0, allBusy - awayBusy);
  const bar = byId("capacity-bar");
  const available = `${amount(there)} of ${amount(total)}`;
  const none = there === 0;
  const text = byId("capacity-text");
  put(text, none ? `${total ? available : "No"} ${total === 1 ? "Box" : "Boxes"} available`
    : `${amount(busy)}/${amount(there)} ${there === 1 ? "Box" : "Boxes"}`);
  text.title = `${count(busy, "Box is", "Boxes are")} busy, of ${amount(there)}`;
  text.classList.toggle("warning", none);
  put(byId("capacity-note"), away > 0 && !none ? `${available} available` : "");
  bar.setAttribute("aria-valuemax", String(Math.max(there, 1)));
  bar.setAttribute("aria-valuenow", String(Math.min(busy, Math.max(there, 1))));
  const said = `${amount(busy)} of ${count(there, "Box", "Boxes")} busy`;
  bar.setAttribute("aria-valuetext", away ? `${said}, ${amount(away)} more not available` : said);
  bar.classList.toggle("full", there > 0 && busy >= there);
  bar.classList.toggle("segments", total > 1 && total <= SEGMENTS_AT_MOST);
  bar.style.setProperty("--total", Math.max(total, 1));
  bar.style.setProperty("--busy", Math.min(busy, there));
  bar.style.setProperty("--away", away);
  warnOfAbsence(away, `${available} Boxes available`);
}

/** Show on the button of nodes and workers that some are absent. */
function warnOfAbsence(away, available) {
  const warning = byId("fleet-warning");
  if (warning.hidden === (away === 0)) return;
  warning.hidden = away === 0;
  put(byId("fleet-absence"), away ? `: ${available}` : "");
  if (away) announce(`Not all Boxes are available: ${available}.`);
}

export function showConnection(state) {
  const node = byId("connection");
  if (node.dataset.state === state) return;
  const before = node.dataset.state;
  node.dataset.state = state;
  put(node, WORDS[state]);
  if (state === "reconnecting" && before === "live") announce("Connection lost. Reconnecting.");
  if (state === "live" && before === "reconnecting") announce("Live again.");
}

let waiting = [];
let timer = 0;

/** Announce to screen readers; join several messages, and count many of the same `sort`. */
export function announce(text, sort = "") {
  waiting.push({ text, sort });
  timer ||= setTimeout(speak, GATHER_MS);
}

function speak() {
  timer = 0;
  const sorts = Map.groupBy ? Map.groupBy(waiting, (item) => item.sort) : new Map([["", waiting]]);
  const said = [];
  for (const [sort, items] of sorts) {
    if (items.length <= FEW || !sort) said.push(...items.slice(-FEW).map((item) => item.text));
    else said.push(`${amount(items.length)} ${sort}`);
  }
  waiting = [];
  put(byId("announcer"), said.join(" "));
}

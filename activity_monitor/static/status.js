// The page's own state: Boxes, connection, trouble, and what a screen reader is told.

import { amount, count, put } from "./text.js";

const byId = (id) => document.getElementById(id);
const WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", paused: "Paused", out: "Signed out" };
const SEGMENTS_AT_MOST = 64; // more Boxes than that are one plain bar
const GATHER_MS = 1500;
const FEW = 3;

export function showCapacity({ total, busy }) {
  const bar = byId("capacity-bar");
  put(byId("capacity-text"), `${amount(busy)}/${amount(total)} ${total === 1 ? "Box" : "Boxes"}`);
  byId("capacity-text").title = `${count(busy, "Box is", "Boxes are")} busy, of ${amount(total)}`;
  bar.setAttribute("aria-valuemax", String(Math.max(total, 1)));
  bar.setAttribute("aria-valuenow", String(Math.min(busy, Math.max(total, 1))));
  bar.setAttribute("aria-valuetext", `${amount(busy)} of ${count(total, "Box", "Boxes")} busy`);
  bar.classList.toggle("full", total > 0 && busy >= total);
  bar.classList.toggle("segments", total > 1 && total <= SEGMENTS_AT_MOST);
  bar.style.setProperty("--total", Math.max(total, 1));
  bar.style.setProperty("--busy", Math.min(busy, total));
  document.title = `${busy}/${total} Boxes · Activity Monitor`;
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

/** A sentence over the lists, for as long as there is trouble; "" takes it away. */
export function showTrouble(text) {
  const banner = byId("banner");
  put(banner, text);
  banner.hidden = !text;
}

let waiting = [];
let timer = 0;

/** Tell a screen reader; several at once are gathered, many are counted by their `sort`. */
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

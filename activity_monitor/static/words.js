// What the page says of a workload: titles, states, clocks. The words of docs/glossary.md, for people.

import { firstLine } from "./text.js";
import { span } from "./times.js";

export const PLAIN_PRIORITY = 50;
const KINDS = { build: "build", deploy: "deploy", ssh: "SSH session" };

export function kindOf(row) {
  return KINDS[row.kind] ?? "workload";
}

/** "build #41 of web" */
export function nameOf(row) {
  return `${kindOf(row)} #${row.number} of ${row.project}`;
}

/** Whether it can be rebuilt: it has ended, and is no SSH session, which needs a public key. */
export function canBeAgain(row) {
  return row.state === "finished" && row.kind !== "ssh";
}

/** Whether it waits: a priority decides nothing once it holds Boxes. */
export function canBeBumped(row) {
  return row.state === "registered" || row.state === "queued";
}

/** What doing it once more is called. */
export function againOf(row) {
  return row.kind === "deploy" ? "Redeploy" : "Rebuild";
}

/** The first line of the message, or what stands in for it. */
export function titleOf(row) {
  const line = firstLine(row.message);
  if (line) return line;
  if (row.kind === "deploy") return `Deploy to ${row.server ?? "a server"}`;
  if (row.kind === "ssh") return row.branch ? `SSH session on ${row.branch}` : "SSH session";
  return `Build of ${row.branch ?? row.tag ?? row.project ?? "?"}`;
}

/** {icon, text}: the branch, tag or server that the workload belongs to; null for none. */
export function placeOf(row) {
  if (row.server) return { icon: "server", text: row.server, label: "server" };
  if (row.tag) return { icon: "tag", text: row.tag, label: "tag" };
  if (row.branch) return { icon: "branch", text: row.branch, label: "branch" };
  return null;
}

/** Whether nothing is heard from the worker of a workload that has started. */
export function isAway(row) {
  return Boolean(row.started_at && row.why);
}

/** The name of the mark, and of the state in words. */
export function stateOf(row) {
  if (row.state === "finished") return row.result ?? "unknown";
  if (row.state === "stopping" || (row.asked && row.state === "running")) return "stopping";
  if (row.state === "running" && row.why) return "unknown"; // nothing is heard from its worker
  return { registered: "upcoming", queued: "blocked", running: "running" }[row.state] ?? "unknown";
}

/** {word, time}: what is counted of a row now; null where nothing is. */
export function clockOf(row) {
  if (row.state === "queued" && row.queued_at) return { word: "waits", time: span(row.queued_at) };
  if (row.state === "running" || row.state === "stopping") {
    if (row.started_at) return { word: "runs", time: span(row.started_at) };
  }
  if (row.state === "finished" && row.started_at) {
    return { word: "took", time: span(row.started_at, row.finished_at) };
  }
  return null;
}

/** Why the row is where it is, or ended as it did: in the service's words where they are there. */
export function whyOf(row) {
  if (row.state === "running" || row.state === "stopping") {
    if (row.why) return row.why;
  }
  if (row.asked && row.state !== "finished") {
    return row.state === "running" || row.state === "stopping"
      ? "Asked to stop. Its Boxes come free when its jobs have really ended." : "Asked to cancel.";
  }
  if (row.state === "stopping") {
    return `${row.reason ?? "Stopping"}: its Boxes come free when its jobs have ended.`;
  }
  if (row.state === "registered") {
    return row.why ?? `Waits for earlier ${row.kind === "deploy" ? "deploys to its server" : "builds of its branch"}.`;
  }
  if (row.state === "queued") return row.why ?? "Waits for free Boxes.";
  return row.reason ?? "";
}

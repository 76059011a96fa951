// The page's texts about a workload: titles, states, clocks. They use the words of docs/glossary.md.

import { firstLine } from "./text.js";
import { inLocalTime, span } from "./times.js";

export const PLAIN_PRIORITY = 50;
const SCHEDULED = "schedule: "; // and its planned time: the message is the service's
const KINDS = { build: "build", deploy: "deploy", ssh: "SSH session" };

export function kindOf(row) {
  return KINDS[row.kind] ?? "workload";
}

/** "build #41 of web" */
export function nameOf(row) {
  return `${kindOf(row)} #${row.number} of ${row.project}`;
}

/** Whether it can be rebuilt: it has ended, and is not an SSH session, which needs a public key. */
export function canBeAgain(row) {
  return row.state === "finished" && row.kind !== "ssh";
}

/** Whether it waits: a priority has no effect once it holds Boxes. */
export function canBeBumped(row) {
  return row.state === "registered" || row.state === "queued";
}

/** The label of the button that submits it again. */
export function againOf(row) {
  return row.kind === "deploy" ? "Redeploy" : "Rebuild";
}

/** The first line of the message, or a replacement. */
export function titleOf(row) {
  const line = firstLine(row.message);
  if (line) return line.startsWith(SCHEDULED) ? inLocalTime(line) : line;
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

/** Whether the worker of a started workload does not answer. */
export function isAway(row) {
  return Boolean(row.started_at && row.why);
}

/** The name of the icon and of the state. */
export function stateOf(row) {
  if (row.state === "finished") return row.result ?? "unknown";
  if (row.state === "stopping" || (row.asked && row.state === "running")) return "stopping";
  if (row.state === "running" && row.why) return "unknown"; // its worker does not answer
  return { registered: "upcoming", queued: "blocked", running: "running" }[row.state] ?? "unknown";
}

/** {word, time}: the duration that is shown for a row; null for none. */
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

/** Why the row waits, or how it ended: in the service's words, if they are known. */
export function whyOf(row) {
  if (row.state === "running" || row.state === "stopping") {
    if (row.why) return row.why;
  }
  if (row.asked && row.state !== "finished") {
    return row.state === "running" || row.state === "stopping"
      ? "Asked to stop. Its Boxes are freed when its jobs have really ended." : "Asked to cancel.";
  }
  if (row.state === "stopping") {
    return `${row.reason ?? "Stopping"}: its Boxes are freed when its jobs have ended.`;
  }
  if (row.state === "registered") {
    return row.why ?? `Waits for earlier ${row.kind === "deploy" ? "deploys to its server" : "builds of its branch"}.`;
  }
  if (row.state === "queued") return row.why ?? "Waits for free Boxes.";
  return row.reason ?? "";
}

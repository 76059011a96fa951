// Ghosts: attempts that workers hold, and that are not theirs for the scheduler. A person gives their
// jobs back to the workers, or ends them.

import { Refused, get, newKey } from "./api.js";
import { moment } from "./times.js";

/** All ghosts; none where the node is of an earlier version. */
export async function getGhosts() {
  try {
    return (await get("/ghosts")).body.ghosts;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return [];
    throw error;
  }
}

/** The cells of a ghost's row. onProblem(text): a request was refused. */
export function ghostRow(ghost, asking, onProblem) {
  const about = ghost.project === null ? "a job that is not known"
    : `${ghost.kind} ${ghost.project} #${ghost.number}: ${ghost.job_name}`;
  const note = ghost.killed_by === null ? ghost.refusal ?? "can be restored" : `${ghost.killed_by} ends it`;
  return [
    { text: `${ghost.job}, attempt ${ghost.attempt}`, note: about, look: "wraps" },
    { text: ghost.worker_name, note: ghost.connected ? "" : "disconnected" },
    { text: ghost.state, note, look: "wraps" },
    { text: moment(ghost.since), look: "number" },
    { text: "", actions: actionsOn(ghost, asking, onProblem) },
  ];
}

function actionsOn(ghost, asking, onProblem) {
  const action = (label, what, done) => ({
    label,
    name: `${label} ${ghost.job} on ${ghost.worker_name}`,
    right: "operate",
    run: async (control) => {
      onProblem(await asking.post(`/ghosts/${encodeURIComponent(ghost.id)}/${what}`, newKey(), {}, control, done));
    },
  });
  const found = [];
  if (ghost.refusal === null) found.push(action("Restore", "restore", `${ghost.worker_name} goes on with ${ghost.job}.`));
  if (ghost.killed_by === null && !(ghost.kind === "build" && ghost.state === "running")) {
    found.push(action("End", "kill", `${ghost.worker_name} ends ${ghost.job}.`));
  }
  return found;
}

// The page's table of contents: asks once for the activity, follows the events, shows the lists.

import { Away, Refused, SignedOut, get } from "./api.js";
import { Board } from "./board.js";
import { SignInDialog, StopDialog } from "./dialogs.js";
import { Feed } from "./feed.js";
import { FleetView } from "./fleet.js";
import { Keys } from "./keys.js";
import { LISTS, Model } from "./model.js";
import { Opener } from "./opener.js";
import { Refresher } from "./refresh.js";
import { announce, showCapacity, showConnection, showTrouble } from "./status.js";
import { moment, now, setClock } from "./times.js";
import { nameOf } from "./words.js";

const RETRY_MS = 3000;
const SECOND_MS = 1000;
const OF_ABSENCE = /^(worker\.|job\.(unknown|seen_again|given_again)$)/; // what rows say may change

const byId = (id) => document.getElementById(id);
const model = new Model();
const board = new Board(model);
const refresher = new Refresher(refresh);
const signIn = new SignInDialog(resume);
const stopDialog = new StopDialog({ onAsked: stopAsked, onSignedOut: signedOut });
const opener = new Opener(model, board, { onSignedOut: signedOut, onStop: (row) => stopDialog.ask(row) });
const fleet = new FleetView({ onSignedOut: signedOut });
let feed = null;
let lost = false;
let shownAt = null;

/** Ask for the whole activity: the first time, and whenever sentences may have changed. */
async function refresh() {
  try {
    const { response, body } = await get("/activity");
    setClock(response);
    if (lost) model.forget();
    model.replace(body);
    shownAt = now();
    showTrouble("");
    show();
    if (!feed) follow(body.cursor);
    else if (lost) feed.resume(body.cursor);
    lost = false;
  } catch (error) {
    if (error instanceof SignedOut) signedOut();
    else if (error instanceof Away || error instanceof Refused) away(error);
    else throw error;
  }
}

function away(error) {
  const since = shownAt ? ` What you see is of ${moment(new Date(shownAt).toISOString())}.` : "";
  showTrouble(`${error.message}${since} Trying again …`);
  setTimeout(() => refresher.ask(), RETRY_MS);
}

function follow(cursor) {
  feed = new Feed(cursor, {
    onEvents: take,
    onState: showConnection,
    onSignedOut: signedOut,
    onLost: () => {
      lost = true;
      refresher.now();
    },
  });
}

/** Events, in order: each changes the model only; the lists are shown once a frame. */
function take(events) {
  let complete = true;
  let absence = false;
  for (const { id, data } of events) {
    const event = JSON.parse(data);
    complete = model.apply(id, event) && complete;
    absence ||= OF_ABSENCE.test(event.type);
    opener.heard(event);
    fleet.heard(event);
    if (event.type === "workload.finished" && event.result === "failed") {
      announce(`${nameOf(event)} failed.`, "workloads failed.");
    }
  }
  show();
  if (!complete || absence || model.waiting) refresher.ask();
}

function show() {
  board.invalidate();
}

function shown() {
  showCapacity(model.capacity);
  const quiet = LISTS.every((name) => model.size(name) === 0);
  byId("empty").hidden = !quiet;
  byId("columns").hidden = quiet;
  byId("lists").removeAttribute("aria-busy");
  opener.update();
}

function stopAsked(row) {
  model.stopAsked(row);
  announce(`Asked to stop ${nameOf(row)}.`);
  board.views.get(row.id)?.title.focus({ preventScroll: true }); // its stop button has done its work
  show();
}

function signedOut() {
  showConnection("out");
  signIn.show();
}

function resume() {
  refresher.now();
  feed?.resume();
  opener.resume();
}

function tick() {
  board.tick();
  opener.tick();
  setTimeout(tick, SECOND_MS - (now() % SECOND_MS));
}

board.onShown = shown;
new Keys(board, {
  onClose: (typing) => opener.escape(typing),
  onFleet: () => fleet.open(),
  onStop: (row) => stopDialog.ask(row),
});
byId("filter").addEventListener("input", (event) => board.filter(event.target.value));
byId("sign-out").addEventListener("submit", async (event) => {
  event.preventDefault();
  await fetch("/sign-out", { method: "POST" }).catch(() => null);
  location.replace("/");
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && feed) refresher.ask(); });
refresher.now();
tick();

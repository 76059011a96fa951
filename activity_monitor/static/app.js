// The page's main module: it requests the activity once, follows the events, and shows the lists.

import { filterOf, setFilter } from "./address.js";
import { Again } from "./again.js";
import { Away, Refused, SignedOut, get } from "./api.js";
import { Board } from "./board.js";
import { BumpDialog } from "./bump.js";
import { SignInDialog, StopDialog } from "./dialogs.js";
import { Feed } from "./feed.js";
import { FleetView } from "./fleet.js";
import { sayHistory } from "./history.js";
import { Keys } from "./keys.js";
import { LISTS, Model } from "./model.js";
import { Opener } from "./opener.js";
import { Refresher } from "./refresh.js";
import { ResolveDialog } from "./resolve.js";
import { forgetRights, learnRights } from "./rights.js";
import { prepareSignOut } from "./sign-out.js";
import { announce, showCapacity } from "./status.js";
import { showTab } from "./tab.js";
import { now, setClock } from "./times.js";
import { Trouble } from "./trouble.js";
import { nameOf } from "./words.js";

const RETRY_MS = 3000;
const SECOND_MS = 1000;
const HIDDEN_REFRESH_MS = 60000; // a hidden page gets no events after a while, but its title must stay correct
const OF_ABSENCE = /^(worker\.|job\.(unknown|seen_again|given_again)$)/; // the text of rows may change

const byId = (id) => document.getElementById(id);
const filter = byId("filter");
const model = new Model();
const board = new Board(model, filterOf());
const refresher = new Refresher(refresh);
const trouble = new Trouble({ onChange: showTitle, onBack: back });
const signIn = new SignInDialog(resume);
const stopDialog = new StopDialog(model, { onAsked: stopAsked, onSignedOut: signedOut });
const resolving = new ResolveDialog(signedOut);
const bump = new BumpDialog(model, signedOut);
const again = new Again({ onSignedOut: signedOut });
const opener = new Opener(model, board, { onSignedOut: signedOut, onUnfiltered: () => setWords("") });
const fleet = new FleetView({ onSignedOut: signedOut });
let feed = null;
let lost = false;
let loaded = false;
let askTimer = 0;
let tickTimer = 0;

/** Request the whole activity: at the start, and when reasons may have changed. */
async function refresh() {
  try {
    const [{ response, body }] = await Promise.all([get("/activity"), learnRights()]);
    setClock(response);
    if (lost) model.forget();
    model.replace(body);
    sayHistory(body.notice);
    loaded = true;
    trouble.answer("");
    if (signIn.leave()) resume();
    show();
    if (!feed) follow(body.cursor);
    else if (lost) feed.resume(body.cursor);
    lost = false;
    if (document.hidden) askLater(HIDDEN_REFRESH_MS);
  } catch (error) {
    if (error instanceof SignedOut) signedOut();
    else if (error instanceof Away || error instanceof Refused) away(error);
    else throw error;
  }
}

/** Repeat the requests that failed. */
function back() {
  opener.resume();
  refresher.ask();
}

function away(error) {
  trouble.answer(error.message);
  askLater(document.hidden ? HIDDEN_REFRESH_MS : RETRY_MS);
}

function askLater(ms) {
  clearTimeout(askTimer);
  askTimer = setTimeout(() => refresher.ask(), ms);
}

function follow(cursor) {
  feed = new Feed(cursor, {
    onEvents: take,
    onState: streamIs,
    onSignedOut: signedOut,
    onLost: () => {
      lost = true;
      refresher.now();
    },
  });
}

function streamIs(state, why) {
  trouble.stream(state, why);
  if (state === "paused") askLater(HIDDEN_REFRESH_MS);
}

/** While hidden, the page rarely sends requests and its clocks stop; shown again, it is updated. */
function visibility() {
  if (document.hidden) return;
  refresher.now();
  fleet.refresh();
  tick();
}

/** Apply events in order: each one only changes the model; the lists are shown once a frame. */
function take(events) {
  let complete = true;
  let absence = false;
  for (const { id, data } of events) {
    const event = JSON.parse(data);
    complete = model.apply(id, event) && complete;
    absence ||= OF_ABSENCE.test(event.type) || (event.type === "workload.stopping" && model.capacity?.away > 0);
    opener.onEvent(event);
    fleet.onEvent(event);
    if (event.type === "workload.finished" && event.result === "failed") {
      announce(`${nameOf(event)} failed.`, "workloads failed.");
    }
  }
  trouble.noteAnswer();
  show();
  if (!complete || (!document.hidden && (absence || model.waiting))) refresher.ask();
}

/** Show changes soon. While the page is hidden there are no frames, but its title is visible. */
function show() {
  board.invalidate();
  showTitle();
}

function showTitle() {
  if (loaded || trouble.word) showTab({ trouble: trouble.word, failed: model.failed(), capacity: model.capacity });
}

function shown() {
  if (!loaded) return;
  showCapacity(model.capacity);
  const quiet = LISTS.every((name) => model.size(name) === 0);
  byId("empty").hidden = !quiet;
  byId("columns").hidden = quiet;
  byId("lists").removeAttribute("aria-busy");
  opener.update();
  stopDialog.update();
  resolving.update();
  bump.update();
}

function stopAsked(row) {
  model.stopAsked(row);
  announce(`Asked to stop ${nameOf(row)}.`);
  board.views.get(row.id)?.title.focus({ preventScroll: true }); // its stop button is gone
  show();
}

function signedOut() {
  trouble.stream("out");
  signIn.show();
}

function resume() {
  forgetRights();
  trouble.stream("connecting");
  refresher.now();
  feed?.resume();
  opener.resume();
}

function tick() {
  clearTimeout(tickTimer);
  if (document.hidden) return;
  board.tick();
  opener.tick();
  tickTimer = setTimeout(tick, SECOND_MS - (Date.now() % SECOND_MS));
}

function setWords(text) {
  filter.value = text;
  board.filter(text);
  setFilter(text);
}

/** Esc clears the filter if it has the focus; otherwise it closes the open row. */
function escape() {
  if (document.activeElement !== filter) {
    opener.escape();
    return;
  }
  setWords("");
  filter.blur();
}

/** Go to a list, without an entry in the browser's history. */
function jump(event) {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  const list = byId(link.hash.slice(1));
  list.scrollIntoView({ block: "start" });
  byId(`${list.id}-title`).focus({ preventScroll: true });
}

function asked(event) {
  const view = board.views.get(event.target.closest(".row")?.id);
  if (view && event.target.closest(".stop")) stopDialog.ask(view.row);
  if (view && event.target.closest(".again")) again.ask(view.row);
}

function asksToResolve(event) {
  resolving.ask(board.views.get(event.target.closest(".row").id).row, event.detail);
}

board.onShown = shown;
new Keys(board, {
  onClose: escape,
  onFleet: () => fleet.open(),
  onStop: (row) => stopDialog.ask(row),
  onAgain: (row) => again.ask(row),
  onBump: (row) => bump.ask(row),
});
filter.value = filterOf();
filter.addEventListener("input", () => setWords(filter.value));
addEventListener("popstate", () => setWords(filterOf()));
document.querySelector(".jumps").addEventListener("click", jump);
byId("lists").addEventListener("click", asked);
byId("lists").addEventListener("resolve-job", asksToResolve);
byId("lists").addEventListener("bump", (event) => bump.ask(event.detail));
prepareSignOut(byId("sign-out"));
document.addEventListener("visibilitychange", visibility);
refresher.now();
tick();

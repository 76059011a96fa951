// Common code of the pages in addition to the lists. Each asks the API for what it shows, again
// whenever an event may have changed it, and says when nothing is heard.

import { Away, Refused, SignedOut } from "./api.js";
import { DeliveriesView } from "./deliveries-view.js";
import { SignInDialog } from "./dialogs.js";
import { Feed } from "./feed.js";
import { NotificationsView } from "./notifications-view.js";
import { PausesView } from "./pauses-view.js";
import { Refresher } from "./refresh.js";
import { forgetRights, learnRights } from "./rights.js";
import { SchedulesView } from "./schedules-view.js";
import { ServersView } from "./servers-view.js";
import { prepareSignOut } from "./sign-out.js";
import { put } from "./text.js";
import { since } from "./times.js";
import { Trouble } from "./trouble.js";

const RETRY_MS = 3000;
const TICK_MS = 10000;
const VIEWS = {
  servers: ServersView, schedules: SchedulesView, pauses: PausesView, deliveries: DeliveriesView,
  notifications: NotificationsView,
};

const place = document.getElementById("view");
const trouble = new Trouble({ onChange: () => {}, onBack: () => refresher.ask() });
const signIn = new SignInDialog(resume);
const refresher = new Refresher(load);
const view = new VIEWS[document.body.dataset.view](place, {
  onChanged: () => refresher.now(),
  onSignedOut: signedOut,
});
let retry = 0;

/** Request everything that the view shows. */
async function load() {
  clearTimeout(retry);
  try {
    await Promise.all([view.load(), learnRights()]);
    place.removeAttribute("aria-busy");
    trouble.answer("");
    if (signIn.leave()) resume();
  } catch (error) {
    if (error instanceof SignedOut) {
      signedOut();
    } else if (error instanceof Away || error instanceof Refused) {
      trouble.answer(error.message);
      retry = setTimeout(() => refresher.ask(), RETRY_MS);
    } else {
      throw error;
    }
  }
}

// Without an id the stream begins now, so a request that is sent once the stream is live misses no event.
const feed = new Feed("", {
  onEvents: heard,
  onState: (state, why) => {
    trouble.stream(state, why);
    if (state === "live") anew();
  },
  onSignedOut: signedOut,
  onLost: () => feed.resume(""),
});

/** Request everything again, because an event may have been missed. */
function anew() {
  view.forget();
  refresher.now();
}

function heard(events) {
  trouble.noteAnswer();
  const changes = events.map(({ data }) => JSON.parse(data)).filter((event) => view.changedBy(event));
  if (changes.length && !document.hidden) refresher.ask();
}

function signedOut() {
  trouble.stream("out");
  signIn.show();
}

function resume() {
  forgetRights();
  trouble.stream("connecting");
  refresher.now();
  feed.resume();
}

/** Update times such as "3 min ago". */
function tick() {
  for (const node of document.querySelectorAll("[data-since]")) put(node, `${since(node.dataset.since)} ago`);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) anew();
});
prepareSignOut(document.getElementById("sign-out"));
setInterval(() => {
  if (document.hidden) return;
  tick();
  if (view.changesByItself) refresher.ask();
}, TICK_MS);

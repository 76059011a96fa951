// The service's notice about its database: a failover or a restored backup. Shown once in each tab.

import { notify } from "./notice.js";
import { inLocalTime } from "./times.js";

const KEY = "database-history";

/** `notice`: {at, text}, or null. */
export function sayHistory(notice) {
  if (!notice || sessionStorage.getItem(KEY) === notice.at) return;
  sessionStorage.setItem(KEY, notice.at);
  notify(inLocalTime(notice.text));
}

// The browser's tab: title and icon show whether something has failed or has a problem.

import { amount } from "./text.js";

const NAME = "Activity Monitor";
const icon = document.querySelector('link[rel="icon"]');
const files = { calm: icon.href, failed: icon.dataset.failed, trouble: icon.dataset.trouble };

/**
 * `trouble`: one or two words why the page is outdated; "" if it is not. `failed`: how many branches
 * and servers failed. `capacity`: the Boxes.
 */
export function showTab({ trouble, failed, capacity: { total, busy, away, away_busy: awayBusy } }) {
  const there = total - away;
  const parts = [];
  if (trouble) parts.push(`▲ ${trouble}`);
  if (failed && !trouble) parts.push(`✕ ${amount(failed)} failed`);
  if (away && !trouble) parts.push(`▲ ${amount(there)} of ${amount(total)} Boxes available`);
  else if (!trouble) parts.push(`${amount(Math.max(0, busy - awayBusy))}/${amount(there)} Boxes`);
  const title = [...parts, NAME].join(" · ");
  if (document.title !== title) document.title = title;
  const file = files[trouble || (away && !failed) ? "trouble" : failed ? "failed" : "calm"];
  if (icon.href !== file) icon.href = file;
}

// A message at the foot of the page about the user's last action. It stays until it is closed or
// replaced, and may end with a link to a row.

import { make, put } from "./text.js";

const place = document.getElementById("notice");
const text = make("span");
const link = make("a");
const close = make("button", "quiet", "Close");
close.type = "button";
close.addEventListener("click", () => notify(""));
link.addEventListener("click", () => notify(""));
place.append(text, link, close);

/** Show a sentence, and behind it a link {id, text, at?}, to a row of this page or of the page at `at`;
    "" takes away what is shown. */
export function notify(sentence, target = null) {
  put(text, sentence);
  link.hidden = !target;
  if (target) {
    put(link, target.text);
    link.href = `${target.at ?? ""}#${encodeURIComponent(target.id)}`;
  }
  place.hidden = !sentence;
}

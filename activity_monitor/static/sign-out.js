// Signing out. While the service is away it cannot be done: the session lives in the service, and its
// cookie is out of a script's reach. So the page says so, and does not pretend.

import { notify } from "./notice.js";

/** Let `form` sign out, or say why that did not work. */
export function prepareSignOut(form) {
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const why = await signOut();
    button.disabled = false;
    if (why) notify(`You are still signed in: ${why} Try again when it is back.`);
    else location.replace("/");
  });
}

/** Why it did not work; "" when signed out. */
async function signOut() {
  try {
    const response = await fetch("/sign-out", { method: "POST", redirect: "manual" });
    const done = response.type === "opaqueredirect" || response.ok;
    return done ? "" : `the service answered ${response.status}.`;
  } catch {
    return "the service cannot be reached.";
  }
}

// Sign out. This is not possible while the service is away: the service stores the session, and a
// script cannot delete its cookie. Then the page shows an error.

import { notify } from "./notice.js";

/** Let `form` sign out, or show why that failed. */
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

/** Sign out; return an error message, or "" when signed out. */
async function signOut() {
  try {
    const response = await fetch("/sign-out", { method: "POST", redirect: "manual" });
    const done = response.type === "opaqueredirect" || response.ok;
    return done ? "" : `the service answered ${response.status}.`;
  } catch {
    return "the service cannot be reached.";
  }
}

// Signing in by fetch, which names its origin to the service where a plain form may not.

import { put } from "./text.js";

/** Let `form` sign in without leaving the page; what goes wrong is said in `problem`. */
export function prepareSignIn(form, problem, onSignedIn) {
  const field = form.elements.namedItem("token");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    put(problem, "");
    const wrong = await signIn(field.value);
    button.disabled = false;
    if (!wrong) {
      onSignedIn();
      return;
    }
    put(problem, wrong);
    field.setAttribute("aria-invalid", "true");
    field.select();
  });
}

/** What is wrong, as a sentence; "" when signed in. */
async function signIn(token) {
  let response;
  try {
    response = await fetch("/sign-in", { method: "POST", body: new URLSearchParams({ token }) });
  } catch {
    return "The service cannot be reached. Try again in a moment.";
  }
  if (response.ok) return "";
  if (response.status === 401) {
    return "This token is not valid here. Look for a blank at its ends, or for another service's.";
  }
  if (response.status === 403) return "This is a worker's token; an admin's is needed.";
  if (response.status >= 500) return "The service is away for the moment. Try again soon.";
  return `The service refused to sign in (${response.status}).`;
}

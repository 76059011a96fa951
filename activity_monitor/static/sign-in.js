// Sign in by fetch, which always sends its origin; a plain form may not.

import { put } from "./text.js";

/** Let `form` sign in without leaving the page; show errors in `problem`. */
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

/** Sign in; return an error message, or "" when signed in. */
async function signIn(token) {
  let response;
  try {
    response = await fetch("/sign-in", { method: "POST", body: new URLSearchParams({ token }) });
  } catch {
    return "The service cannot be reached. Try again in a moment.";
  }
  if (response.ok) return "";
  if (response.status === 401) {
    return "This token is not valid. It may contain a space or belong to another service.";
  }
  if (response.status === 403) return "This token has the role worker, which is for machines. Sign in with another one.";
  if (response.status >= 500) return "The service is not available at the moment. Try again soon.";
  return `The service refused to sign in (${response.status}).`;
}

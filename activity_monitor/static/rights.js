// What the caller may do: asked once, and again after signing in. What one may not do is not offered.
// This is only for the eye: the service refuses it anyway.
//
// A control that needs a right has it in `data-right`; base.css hides it from callers without it.

import { Refused, get } from "./api.js";

const EARLIER = "read monitor submit stop deploy operate fleet configure administer instance"; // nodes without roles
const root = document.documentElement;

/** Ask for the caller's rights, unless they are known. Raises the errors of `get`. */
export async function learnRights() {
  if (root.dataset.rights === undefined) root.dataset.rights = await rights();
}

/** Another token may be signed in from now on. */
export function forgetRights() {
  delete root.dataset.rights;
}

export function may(right) {
  return (root.dataset.rights ?? "").split(" ").includes(right);
}

/** Show the control only to callers with the right; return it. */
export function onlyWith(right, control) {
  control.dataset.right = right;
  return control;
}

async function rights() {
  try {
    return (await get("/me")).body.rights.join(" ");
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return EARLIER;
    throw error;
  }
}

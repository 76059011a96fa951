// The sign-in form as a page of its own.

import { prepareSignIn } from "./sign-in.js";

const form = document.querySelector("form.sign-in");
prepareSignIn(form, document.getElementById("sign-in-problem"), () => {
  if (location.pathname === "/sign-in") location.replace("/");
  else location.reload(); // to the row and the filter that the address names
});

// The sign-in form as a separate page.

import { prepareSignIn } from "./sign-in.js";

const form = document.querySelector("form.sign-in");
prepareSignIn(form, document.getElementById("sign-in-problem"), () => {
  if (location.pathname === "/sign-in") location.replace("/");
  else location.reload(); // with the row and the filter in the address
});

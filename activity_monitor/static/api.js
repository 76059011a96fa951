// Calls of the API, with the browser's session cookie. One error for each thing the page can do.

/** The session has ended: show the sign-in form. */
export class SignedOut extends Error {}

/** The service, or its database, is away: try again later. */
export class Away extends Error {}

/** The service refused the request; the message is for the user. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const BASE = "/api/v1";

export function get(path) {
  return call("GET", path, {});
}

/** With a `key`, the service executes repeated requests only once. */
export function post(path, key = "", body = null) {
  return call("POST", path, key ? { "Idempotency-Key": key } : {}, body);
}

export function put(path, body) {
  return call("PUT", path, {}, body);
}

export function remove(path) {
  return call("DELETE", path, {});
}

/** Return a key for one action of the user. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("-");
}

/** Return an open response, for streams; raises the errors of `get`. */
export async function open(path, { headers, signal } = {}) {
  let response;
  try {
    response = await fetch(BASE + path, { headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("The service cannot be reached.");
  }
  if (!response.ok) throw await problem(response);
  return response;
}

async function call(method, path, headers, body = null) {
  let response;
  try {
    const sent = body === null ? {} : { body: JSON.stringify(body) };
    response = await fetch(BASE + path, { method, headers, ...sent, cache: "no-store" });
  } catch {
    throw new Away("The service cannot be reached.");
  }
  if (!response.ok) throw await problem(response);
  try {
    return { response, body: response.status === 204 ? null : await response.json() };
  } catch {
    throw new Away("The service broke off in the middle of its answer.");
  }
}

async function problem(response) {
  if (response.status === 401) return new SignedOut("Your session has ended.");
  const said = await response.json().then((body) => body?.error?.message, () => undefined);
  const message = typeof said === "string" ? said : `The service answered ${response.status}.`;
  if (response.status >= 500 || response.status === 429) return new Away(message);
  return new Refused(response.status, message);
}

// The page's address: ?filter=WORDS#w41 says what is filtered and which row is open. What a person
// opens or closes is a step in the browser's history; the filter only changes the step it is on.

const PARAMETER = "filter";

/** What stands behind the #: the id of a workload, or of a part of the page; "" for nothing. */
export function hashOf() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1); // a lone % is no code
  }
}

/** The filter's text. */
export function filterOf() {
  return new URLSearchParams(location.search).get(PARAMETER) ?? "";
}

/** A new step: this row is open (null: none). */
export function stepTo(id) {
  if ((id ?? "") !== hashOf()) history.pushState(null, "", addressed({ id }));
}

/** The same step, but no row is open: it went away by itself. */
export function dropRow() {
  history.replaceState(null, "", addressed({ id: null }));
}

/** The same step with another filter. */
export function setFilter(filter) {
  if (filter !== filterOf()) history.replaceState(null, "", addressed({ filter }));
}

function addressed({ id = hashOf(), filter = filterOf() }) {
  const query = filter ? `?${new URLSearchParams({ [PARAMETER]: filter })}` : "";
  return location.pathname + query + (id ? `#${encodeURIComponent(id)}` : "");
}

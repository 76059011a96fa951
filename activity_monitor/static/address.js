// The page's address: ?filter=WORDS#w41 contains the filter and the open row. Opening or closing a
// row adds an entry to the browser's history; the filter only changes the current entry.

const PARAMETER = "filter";

/** The part after the #: the id of a workload, or of a part of the page; "" for none. */
export function hashOf() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1); // an invalid % sequence
  }
}

/** The filter's text. */
export function filterOf() {
  return new URLSearchParams(location.search).get(PARAMETER) ?? "";
}

/** Add a history entry: this row is open (null: none). */
export function stepTo(id) {
  if ((id ?? "") !== hashOf()) history.pushState(null, "", addressed({ id }));
}

/** Change the current entry: no row is open, because the row was removed. */
export function dropRow() {
  history.replaceState(null, "", addressed({ id: null }));
}

/** Change the current entry: another filter. */
export function setFilter(filter) {
  if (filter !== filterOf()) history.replaceState(null, "", addressed({ filter }));
}

function addressed({ id = hashOf(), filter = filterOf() }) {
  const query = filter ? `?${new URLSearchParams({ [PARAMETER]: filter })}` : "";
  return location.pathname + query + (id ? `#${encodeURIComponent(id)}` : "");
}

// What moves when the lists are shown anew glides to its new place, so that the eye can follow it and
// nothing jumps: a row among the others of its list, and a list under one that grows or shrinks.

const GLIDE = { duration: 150, easing: "ease-out" };
const LEAST_PIXELS = 1;
const NEAR_PIXELS = 200; // what is further out of sight need not glide
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const gliding = new Set();

/** Notes where all is in these lists ({section, rows}); call the result when they have changed. */
export function noted(lists) {
  if (document.hidden || calm.matches) return () => {};
  const before = lists.map(placesOf);
  return () => {
    gliding.clear();
    const after = lists.map(placesOf);
    lists.forEach((list, at) => glide(list, before[at], after[at]));
  };
}

/**
 * Whether something still glides: to move it now would make it jump. An animation is idle where its
 * element is no longer shown.
 */
export function isGliding() {
  return [...gliding].some((animation) => animation.playState !== "idle");
}

/** Where a list is, and each part of it within it: rows by their ids. */
function placesOf({ section, rows }) {
  const { top, bottom } = section.getBoundingClientRect();
  const within = new Map();
  for (const part of partsOf({ section, rows })) {
    const rect = part.getBoundingClientRect();
    within.set(part.id || part, { top: rect.top - top, bottom: rect.bottom - top });
  }
  return { top, bottom, within };
}

function partsOf({ section, rows }) {
  return [...rows.children, ...[...section.children].filter((part) => part !== rows)];
}

function glide(list, before, after) {
  if (inSight(before) || inSight(after)) move(list.section, before.top - after.top);
  for (const part of partsOf(list)) {
    const was = before.within.get(part.id || part);
    const is = after.within.get(part.id || part);
    if (was && (inSight(was, before.top) || inSight(is, after.top))) move(part, was.top - is.top);
  }
}

function inSight({ top, bottom }, within = 0) {
  return within + bottom > -NEAR_PIXELS && within + top < innerHeight + NEAR_PIXELS;
}

function move(element, by) {
  if (Math.abs(by) < LEAST_PIXELS) return;
  const animation = element.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], GLIDE);
  gliding.add(animation);
  // Only after a frame without it: a browser that sees one glide follow another in the next frame
  // takes the whole way for a jump.
  animation.onfinish = () => setTimeout(() => gliding.delete(animation));
}

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
  const before = lists.map(placesOf); // what still glides, where it is seen
  return () => {
    for (const animation of gliding) animation.cancel();
    gliding.clear();
    const after = lists.map(placesOf);
    lists.forEach((list, at) => glide(list, before[at], after[at]));
  };
}

/** Whether something still glides: to move it now would make it jump. */
export function isGliding() {
  return [...gliding].some((animation) => animation.playState === "running");
}

/** The top of a list, and of each part of it within it: of rows by their ids. */
function placesOf({ section, rows }) {
  const { top } = section.getBoundingClientRect();
  const within = new Map();
  for (const part of partsOf({ section, rows })) {
    const rect = part.getBoundingClientRect();
    within.set(part.id || part, { top: rect.top - top, bottom: rect.bottom - top });
  }
  return { top, within };
}

function partsOf({ section, rows }) {
  return [...rows.children, ...[...section.children].filter((part) => part !== rows)];
}

function glide(list, before, after) {
  move(list.section, before.top - after.top);
  for (const part of partsOf(list)) {
    const was = before.within.get(part.id || part);
    const is = after.within.get(part.id || part);
    if (was && (inSight(before.top, was) || inSight(after.top, is))) move(part, was.top - is.top);
  }
}

function inSight(top, part) {
  return top + part.bottom > -NEAR_PIXELS && top + part.top < innerHeight + NEAR_PIXELS;
}

function move(element, by) {
  if (Math.abs(by) < LEAST_PIXELS) return;
  const animation = element.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], GLIDE);
  gliding.add(animation);
  animation.onfinish = () => gliding.delete(animation);
}

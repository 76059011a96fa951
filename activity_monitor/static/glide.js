// Animate elements that move when the lists are updated, so that users can follow them: a row within
// its list, and a list below another one that grows or shrinks.

const GLIDE = { duration: 150, easing: "ease-out" };
const LEAST_PIXELS = 1;
const NEAR_PIXELS = 200; // elements further outside of the visible area are not animated
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const gliding = new Set();

/** Record all positions in these lists ({section, rows}); call the result after the change. */
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
 * Whether an animation is still running: moving its element now would make it jump. The animation of
 * an element that is not displayed is idle.
 */
export function isGliding() {
  return [...gliding].some((animation) => animation.playState !== "idle");
}

/** Return the position of a list and of its parts: rows by their ids. */
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

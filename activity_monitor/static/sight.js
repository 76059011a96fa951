// Scrolling to what a person asked for.

const MARGIN = 16;
const bar = document.querySelector(".bar-of-lists");
const foot = document.getElementById("foot");

/**
 * Scroll so far that the end of `answer` is in sight, but never the top of `element`, in which it
 * stands, out of sight.
 */
export function reveal(element, answer) {
  const { top } = element.getBoundingClientRect();
  const { bottom } = answer.getBoundingClientRect();
  const highest = bar.getBoundingClientRect().bottom + MARGIN / 2;
  const lowest = innerHeight - foot.getBoundingClientRect().height - MARGIN;
  const down = Math.min(Math.max(0, bottom - lowest), top - highest);
  if (top < highest || down > 0) scrollBy(0, top < highest ? top - highest : down);
}

// Scroll to what the user opened.

const MARGIN = 16;
const bar = document.querySelector(".bar-of-lists");
const foot = document.getElementById("foot");

/**
 * Scroll until the end of `answer` is visible, but keep the top of `element`, which contains it,
 * visible.
 */
export function reveal(element, answer) {
  const { top } = element.getBoundingClientRect();
  const { bottom } = answer.getBoundingClientRect();
  const highest = bar.getBoundingClientRect().bottom + MARGIN / 2;
  const lowest = innerHeight - foot.getBoundingClientRect().height - MARGIN;
  const down = Math.min(Math.max(0, bottom - lowest), top - highest);
  if (top < highest || down > 0) scrollBy(0, top < highest ? top - highest : down);
}

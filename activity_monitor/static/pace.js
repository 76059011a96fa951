// Showing things at a pace that the browser can keep: once a frame at most, and where a frame's work
// costs much, so seldom that two thirds of the browser's time stay for whoever reads.

const TIMES_ITS_COST = 2;

export class Pace {
  #show;
  #least;
  #earliest = 0;
  #asked = false;

  /** `show` is called in an animation frame, `least` milliseconds apart or more. */
  constructor(show, least = 0) {
    this.#show = show;
    this.#least = least;
  }

  /** Something has changed: show it soon. Costs nothing while a showing is due. */
  ask() {
    if (this.#asked) return;
    this.#asked = true;
    const wait = this.#earliest - performance.now();
    const frame = () => requestAnimationFrame(() => this.#frame());
    if (wait > 0) setTimeout(frame, wait);
    else frame();
  }

  #frame() {
    const started = performance.now();
    this.#asked = false;
    this.#earliest = started + this.#least;
    setTimeout(() => { // after the browser has laid out and painted
      const ended = performance.now();
      this.#earliest = ended + Math.max(this.#least, TIMES_ITS_COST * (ended - started));
    });
    this.#show();
  }
}

// Limit how often the page is updated: at most once a frame. If an update is expensive, less often,
// so that two thirds of the browser's time stay free for the user.

const TIMES_ITS_COST = 2;

export class Pace {
  #show;
  #least;
  #earliest = 0;
  #asked = false;

  /** `show` is called in an animation frame, at least `least` milliseconds after the last call. */
  constructor(show, least = 0) {
    this.#show = show;
    this.#least = least;
  }

  /** Request an update. Repeated requests before the update cost nothing. */
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

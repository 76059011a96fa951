// The icons of states and results: each has its own shape, so that colour is not the only difference.

const SVG = "http://www.w3.org/2000/svg";

const RING = "M8 1.75a6.25 6.25 0 1 1 0 12.5a6.25 6.25 0 0 1 0-12.5z";
const SHAPES = {
  upcoming: [["dotted", RING], ["line", "M8 4.75V8l2.25 1.5"]],
  blocked: [["line", RING], ["line", "M6.25 5.75v4.5M9.75 5.75v4.5"]],
  running: [["faint", RING], ["line turning", "M8 1.75a6.25 6.25 0 0 1 6.25 6.25"], ["solid", "M6.5 5.5L10.75 8L6.5 10.5z"]],
  stopping: [["dotted turning", RING], ["solid", "M5.75 5.75h4.5v4.5h-4.5z"]],
  passed: [["solid", RING], ["cut", "M5 8.25l2.1 2.1L11.1 6"]],
  failed: [["solid", RING], ["cut", "M5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8"]],
  stopped: [["line", RING], ["solid", "M5.75 5.75h4.5v4.5h-4.5z"]],
  canceled: [["line", RING], ["line", "M3.9 12.1L12.1 3.9"]],
  unknown: [["dotted", RING], ["line", "M6.2 6.3a1.85 1.85 0 1 1 2.6 1.7c-.55.25-.8.6-.8 1.1M8 11.4v.1"]],
  branch: [["line", "M4.5 2.5v7M4.5 9.5a2 2 0 1 0 .01 0zM11.5 2.6a2 2 0 1 0 .01 0zM11.5 6.6c0 3-3.2 2.4-5.2 4"]],
  tag: [["line", "M2.5 7.6V2.5h5.1l6 6l-5.1 5.1zM5.4 5.4v.1"]],
  server: [["line", "M2.5 3.5h11v3.75h-11zM2.5 9h11v3.75h-11zM5 5.4v.05M5 10.9v.05"]],
  box: [["line", "M3 3h10v10H3z"]],
};

/** A decorative icon: the text next to it has the same meaning. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon icon-${name}`);
  for (const [className, d] of SHAPES[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", className);
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

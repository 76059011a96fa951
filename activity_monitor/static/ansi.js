// A job's output as lines of styled text. Only SGR sequences (colours, bold ...) have an effect; all
// other escape sequences are removed. Sequences may be split over chunks.
//
// After a carriage return the line is overwritten, as in a terminal: so a progress bar is one line.

const MAX_LINE_CHARACTERS = 4000;
const MAX_CSI_CHARACTERS = 64;
const CUT = " … (the rest of this line is left out)";

const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g;
const CSI = /^(?:\u001b\[|\u009b)([0-?]*)[ -/]*([@-~])/;
const CSI_BEGUN = /^(?:\u001b\[|\u009b)[0-?]*[ -/]*$/;
const SHORT = /^\u001b[ -/]*[0-~]/;
const SHORT_BEGUN = /^\u001b[ -/]*$/;
const STRING = /^(?:\u001b[P\]X^_]|[\u0090\u0098\u009d-\u009f])/; // DCS, OSC, SOS, PM, APC
const STRING_END = /\u0007|\u001b\\|\u009c|[\u0018\u001a]|(?=\n)/;

// xterm's palette of 16: 256 and true colours are shown as the nearest of these, so that both the
// light and the dark page can choose tones that are readable.
const PALETTE = [
  [0, 0, 0], [205, 0, 0], [0, 205, 0], [205, 205, 0], [0, 0, 238], [205, 0, 205], [0, 205, 205], [229, 229, 229],
  [127, 127, 127], [255, 0, 0], [0, 255, 0], [255, 255, 0], [92, 92, 255], [255, 0, 255], [0, 255, 255], [255, 255, 255],
];
const SWITCHES = {
  1: ["bold", true], 2: ["dim", true], 3: ["italic", true], 4: ["underline", true], 7: ["inverse", true],
  9: ["strike", true], 23: ["italic", false], 24: ["underline", false], 27: ["inverse", false], 29: ["strike", false],
};

/** Cuts output into lines. A line is a list of {text, style}; style is class names, or "". */
export class AnsiLines {
  /** The line that has not ended yet. */
  open = [];
  #length = 0;
  #style = {};
  #classes = "";
  #rest = "";
  #inString = false;
  #returned = false;

  /** Return the lines that `chunk` completes. */
  push(chunk) {
    const lines = [];
    let text = this.#rest + chunk;
    this.#rest = "";
    while (text) text = this.#step(text, lines);
    return lines;
  }

  #step(text, lines) {
    if (this.#inString) return this.#skipString(text);
    CONTROL.lastIndex = 0;
    const control = CONTROL.exec(text);
    if (!control) {
      this.#write(text);
      return "";
    }
    if (control.index) this.#write(text.slice(0, control.index));
    return this.#control(text.slice(control.index), lines);
  }

  #control(text, lines) {
    const code = text[0];
    if (code === "\n") {
      lines.push(this.open);
      this.#clear();
    } else if (code === "\r") {
      this.#returned = true;
    } else if (code === "\u001b" || code >= "\u0080") {
      return this.#escape(text);
    } else if (code !== "\u0007" && code !== "\b") {
      this.#write(code);
    }
    return text.slice(1);
  }

  #escape(text) {
    const string = STRING.exec(text);
    if (string) {
      this.#inString = true;
      return text.slice(string[0].length);
    }
    const csi = CSI.exec(text);
    if (csi) {
      if (csi[2] === "m") this.#sgr(csi[1]);
      else if (csi[2] === "K" && (csi[1] === "2" || this.#returned)) this.#clear();
      return text.slice(csi[0].length);
    }
    const begun = text.length < MAX_CSI_CHARACTERS && (CSI_BEGUN.test(text) || SHORT_BEGUN.test(text));
    if (begun) {
      this.#rest = text;
      return "";
    }
    return text.slice((SHORT.exec(text)?.[0] ?? text[0]).length);
  }

  #skipString(text) {
    const end = STRING_END.exec(text);
    if (!end) {
      if (text.endsWith("\u001b")) this.#rest = "\u001b";
      return "";
    }
    this.#inString = false;
    return text.slice(end.index + end[0].length);
  }

  #write(text) {
    if (this.#returned) this.#clear();
    if (this.#length >= MAX_LINE_CHARACTERS) return;
    const room = MAX_LINE_CHARACTERS - this.#length;
    const part = text.length > room ? text.slice(0, room) + CUT : text;
    this.#length += text.length;
    const last = this.open.at(-1);
    if (last && last.style === this.#classes) last.text += part;
    else this.open.push({ text: part, style: this.#classes });
  }

  #clear() {
    this.open = [];
    this.#length = 0;
    this.#returned = false;
  }

  #sgr(parameters) {
    if (/[<-?]/.test(parameters)) return; // a private sequence
    const codes = parameters.split(";").flatMap(flat);
    for (let at = 0; at < codes.length; at += 1) at += this.#set(codes, at);
    this.#classes = classes(this.#style);
  }

  /** Apply one code; return how many of the following codes belong to it. */
  #set(codes, at) {
    const code = codes[at];
    const style = this.#style;
    if (code === 0) this.#style = {};
    else if (code === 22) style.bold = style.dim = false;
    else if (SWITCHES[code]) style[SWITCHES[code][0]] = SWITCHES[code][1];
    else if (code === 39) style.fore = undefined;
    else if (code === 49) style.back = undefined;
    else if (code === 38 || code === 48) return this.#extended(codes, at);
    else if (code >= 30 && code <= 37) style.fore = code - 30;
    else if (code >= 90 && code <= 97) style.fore = code - 82;
    else if (code >= 40 && code <= 47) style.back = code - 40;
    else if (code >= 100 && code <= 107) style.back = code - 92;
    return 0;
  }

  #extended(codes, at) {
    const place = codes[at] === 38 ? "fore" : "back";
    if (codes[at + 1] === 5) {
      this.#style[place] = of256(codes[at + 2]);
      return 2;
    }
    if (codes[at + 1] !== 2) return 0;
    this.#style[place] = nearest(codes.slice(at + 2, at + 5));
    return 4;
  }
}

/** Convert "38:2::9:9:9" (with a colour space) to "38;2;9;9;9", and "4:3" (wavy underline) to "4". */
function flat(parameter) {
  const codes = parameter.split(":").map((code) => Number(code || 0));
  if (codes[1] === 2 && codes.length > 5) codes.splice(2, 1);
  if (codes[0] === 4 && codes.length > 1) return codes[1] ? 4 : 24;
  return codes;
}

function classes(style) {
  const names = ["bold", "dim", "italic", "underline", "strike"].filter((name) => style[name]);
  let { fore, back } = style;
  if (style.inverse) [fore, back] = [back ?? "back", fore ?? "fore"];
  if (fore !== undefined) names.push(`f-${fore}`);
  if (back !== undefined) names.push(`b-${back}`);
  return names.join(" ");
}

function of256(code) {
  if (!(code >= 0 && code <= 255)) return undefined;
  if (code < 16) return code;
  if (code >= 232) return nearest(Array(3).fill(8 + 10 * (code - 232)));
  const level = (step) => (step ? 55 + 40 * step : 0);
  const cube = code - 16;
  return nearest([level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]);
}

function nearest([red, green = 0, blue = 0]) {
  const far = PALETTE.map(([r, g, b]) => (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2);
  return far.indexOf(Math.min(...far));
}

// Text for people: elements, numbers, times. Nothing here or elsewhere sets HTML.

// Characters that cannot be seen, or that turn the direction of what follows, as in _quoting.py.
const UNSEEN =
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

/** The text with characters that cannot be seen written as escapes. */
export function reveal(text) {
  return text
    .replaceAll("\r\n", "\n")
    .replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

/** An element; strings among the children become text nodes. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const WORDS = { inf: Infinity, "-inf": -Infinity, nan: NaN };

/** A number as Python encoded it: JSON lacks some. */
export function toNumber(value) {
  if (typeof value === "number") return value;
  return typeof value === "string" && value in WORDS ? WORDS[value] : undefined;
}

/** A number in at most so many significant digits. */
export function formatNumber(value, digits = 6) {
  const number = toNumber(value);
  if (number === undefined) return value === undefined || value === null ? "" : String(value);
  if (Number.isNaN(number)) return "nan";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  if (Number.isInteger(number) && Math.abs(number) < 1e15) return number.toLocaleString("en-US").replace("-", "−");
  const size = Math.abs(number);
  if (size >= 1e6 || size < 1e-4) {
    const [mantissa, exponent] = number.toExponential(digits - 1).split("e");
    return `${Number(mantissa)}e${Number(exponent)}`.replace("-", "−");
  }
  return String(Number(number.toPrecision(digits))).replace("-", "−");
}

/** A difference, with its sign. */
export function formatChange(change) {
  return (change > 0 ? "+" : "") + formatNumber(change, 3);
}

/** A count in three digits at most: 12.3k. */
export function formatCount(count) {
  if (count < 10_000) return count.toLocaleString("en-US");
  return Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 }).format(count);
}

/** A duration, in the two largest units. */
export function formatDuration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 10) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

export function formatTime(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

export function plural(count, noun) {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

/** A value of a parameter. */
export function formatParam(value) {
  if (typeof value === "number") return formatNumber(value, 8);
  return typeof value === "string" ? reveal(value) : String(value);
}

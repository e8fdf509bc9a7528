// Figures with their units, as people read them. Pure.

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const isNone = (value) => value === null || value === undefined || Number.isNaN(value);

/** Three figures, without an exponent. */
function three(value) {
  const places = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toFixed(places);
}

function scaled(value, units, step) {
  let at = 0;
  while (value >= step * 0.9995 && at < units.length - 1) {
    value /= step;
    at += 1;
  }
  return `${at === 0 ? whole.format(value) : three(value)} ${units[at]}`;
}

export const count = (value) => (isNone(value) ? NONE : whole.format(value));
export const tokens = (value) => (isNone(value) ? NONE : `${whole.format(value)} ${value === 1 ? "token" : "tokens"}`);
export const bytes = (value) => (isNone(value) ? NONE : scaled(Math.max(0, value), ["B", "kB", "MB", "GB", "TB"], 1000));
export const percent = (share) => (isNone(share) ? NONE : `${share > 0 && share < 0.01 ? "<1" : Math.round(share * 100)} %`);
export const plural = (value, one, many = `${one}s`) => `${whole.format(value)} ${value === 1 ? one : many}`;

/** Bytes a second as a network's bits a second. */
export function bits(bytesPerSecond) {
  return isNone(bytesPerSecond) ? NONE : scaled(Math.max(0, bytesPerSecond) * 8, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"], 1000);
}

/** From microseconds to hours. */
export function seconds(value) {
  if (isNone(value)) return NONE;
  if (value < 0) return `−${seconds(-value)}`;
  if (value === 0) return "0 s";
  if (value < 0.00095) return `${Math.max(1, Math.round(value * 1e6))} µs`;
  if (value < 0.9995) return `${value < 0.01 ? (value * 1e3).toFixed(1) : Math.round(value * 1e3)} ms`;
  if (value < 60) return `${three(value)} s`;
  return ago(value);
}

/** Whole units, two at most. */
export function ago(value) {
  if (isNone(value)) return NONE;
  const left = Math.max(0, Math.floor(value));
  if (left < 60) return `${left} s`;
  if (left < 3600) return `${Math.floor(left / 60)} min ${left % 60} s`;
  if (left < 86400) return `${Math.floor(left / 3600)} h ${Math.floor((left % 3600) / 60)} min`;
  return `${Math.floor(left / 86400)} d ${Math.floor((left % 86400) / 3600)} h`;
}

/** The time of day where the reader is. */
export function clock(unixSeconds) {
  return unixSeconds ? new Date(unixSeconds * 1000).toLocaleTimeString([], { hour12: false }) : NONE;
}

export function rate(perSecond, unit) {
  return isNone(perSecond) ? NONE : `${perSecond > 0 && perSecond < 0.01 ? "<0.01" : three(perSecond)} ${unit}/s`;
}

/** A round step so that at most `most` of them fill the span. */
export function step(span, most) {
  const rough = span / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
}

// Numbers: where they lie on an axis, and how they are written.

const WHOLE = new Intl.NumberFormat("en-US");
const FINITE = (value) => value !== null && value !== undefined;

// Round numbers between two, about so many; whole ones only, where asked.
function roundNumbers(low, high, most, whole = false) {
  const rough = (high - low) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.8);
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let k = Math.ceil(low / step - 1e-6); k * step <= high + 1e-6 * step; k += 1) found.push(k * step);
  return { step, found };
}

function minus(text) {
  return text.replace("-", "−");
}

// As an axis says it: with the digits that its step needs.
function onAxis(value, step) {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  if (Math.abs(value) < step / 2) return "0";
  if (digits > 5 || Math.abs(value) >= 1e6) return minus(value.toExponential(1).replace(".0e", "e"));
  return minus(digits ? value.toFixed(digits) : WHOLE.format(value));
}

// A measured value with its unit.
function written(value, panel) {
  if (Math.abs(value) >= 1e6) return minus(value.toExponential(2)) + panel.unit;
  if (panel.digits === null) return minus(String(Number(value.toPrecision(3))));
  return `${minus(value.toFixed(panel.digits))}${panel.unit}`;
}

// The one of these that is nearest, as `by` measures.
function nearest(all, value, by = (one) => one) {
  return all.reduce((best, one) => (Math.abs(by(one) - value) < Math.abs(by(best) - value) ? one : best), all[0]);
}

function rising(lists) {
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}

// An axis between two numbers, drawn between two pixels.
class Axis {
  constructor([low, high], [from, to], log = false) {
    this.bend = log ? Math.log : (value) => value;
    this.unbend = log ? Math.exp : (value) => value;
    Object.assign(this, { low: this.bend(low), high: this.bend(high), from, to });
  }

  pixel(value) {
    return this.from + ((this.bend(value) - this.low) / (this.high - this.low)) * (this.to - this.from);
  }

  value(pixel) {
    return this.unbend(this.low + ((pixel - this.from) / (this.to - this.from)) * (this.high - this.low));
  }
}

function element(space, name, attributes, children) {
  const node = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const html = (name, attributes = {}, ...children) => element("", name, attributes, children);
const svg = (name, attributes = {}, ...children) => element("http://www.w3.org/2000/svg", name, attributes, children);

// What the page holds, decoded; and small helpers. Nothing here draws.

const UNKNOWN = 65535;
const NOT_SURE = 255;

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

function wholesOf(text) {
  const bytes = bytesOf(text);
  const numbers = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i += 1) numbers[i] = bytes[2 * i] | (bytes[2 * i + 1] << 8);
  return numbers;
}

function decoded(held) {
  const data = JSON.parse(held);
  data.labels = wholesOf(data.labels);
  data.lowerFiles = data.files.map((name) => name.toLowerCase());
  for (const model of data.models) {
    for (const kind of Object.keys(model.maps)) model.maps[kind] = wholesOf(model.maps[kind]);
    for (const key of ["neighbours", "predicted", "clusters"]) model[key] = model[key] && wholesOf(model[key]);
    model.confidence = model.confidence && bytesOf(model.confidence);
    model.near = model.neighbours ? model.neighbours.length / data.count : 0;
  }
  data.splits = data.splits && bytesOf(data.splits);
  if (data.sheet) data.sheet.places = wholesOf(data.sheet.places);
  return data;
}

// An element with attributes and children. Names of files and classes come in as children or attributes only, so
// they are always text.
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

const grouped = new Intl.NumberFormat("en");
const counted = (n, word) => `${grouped.format(n)} ${word}${n === 1 ? "" : "s"}`;
const percentOf = (part, whole) => `${((100 * part) / Math.max(whole, 1)).toFixed(1)}%`;

// The same "random" order every time: a linear congruential generator (Numerical Recipes' constants).
function shuffled(numbers, seed = 1) {
  const order = Array.from(numbers);
  let state = seed >>> 0;
  for (let i = order.length - 1; i > 0; i -= 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 4294967296) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

class Facts {
  constructor(data) {
    this.data = data;
    this.every = Array.from({ length: data.count }, (_, i) => i);
    this.tests = data.splits ? this.every.filter((i) => data.splits[i] === 0) : this.every;
    this.all = this.every; // those shown now
    for (const model of data.models) model.groups = model.clusters && this.clusters(model);
  }

  isTest(image) {
    return !this.data.splits || this.data.splits[image] === 0;
  }

  // What an image is beside a test image; empty for one of these.
  part(image) {
    return this.data.splits ? ["", "training image", "validation image"][this.data.splits[image]] : "";
  }

  // Of each cluster: its test images, their commonest class and its share, and the number of its look. The cluster that
  // shares most images with a class has the class's look, then the next pair of what is left; others have looks of
  // their own.
  clusters(model) {
    const { labels, classes } = this.data;
    const counts = [];
    for (const i of this.every) {
      const [c, k] = [model.clusters[i], labels[i]];
      while (c !== UNKNOWN && counts.length <= c) counts.push(new Uint32Array(classes.length));
      if (c !== UNKNOWN && k !== UNKNOWN && this.isTest(i)) counts[c][k] += 1;
    }
    const pairs = counts.flatMap((row, c) => Array.from(row, (count, k) => ({ c, k, count }))).filter((one) => one.count);
    pairs.sort((a, b) => b.count - a.count || a.c - b.c || a.k - b.k);
    const looks = new Map();
    const taken = new Set();
    for (const { c, k } of pairs) {
      if (looks.has(c) || taken.has(k)) continue;
      looks.set(c, k);
      taken.add(k);
    }
    let next = 0;
    return counts.map((row, c) => {
      while (!looks.has(c) && taken.has(next)) next += 1;
      if (!looks.has(c)) {
        looks.set(c, next);
        taken.add(next);
      }
      const count = row.reduce((sum, one) => sum + one, 0);
      const best = row.indexOf(Math.max(...row));
      return { count, best, share: row[best] / Math.max(count, 1), look: looks.get(c) };
    });
  }

  className(number) {
    return number === UNKNOWN ? "unknown" : this.data.classes[number];
  }

  trueClass(image) {
    return this.className(this.data.labels[image]);
  }

  // true, false, or null where it isn't known
  isRight(model, image) {
    if (!model.predicted || model.predicted[image] === UNKNOWN || this.data.labels[image] === UNKNOWN) return null;
    return model.predicted[image] === this.data.labels[image];
  }

  confidence(model, image) {
    const found = model.confidence ? model.confidence[image] : NOT_SURE;
    return found === NOT_SURE ? null : found / 250;
  }

  nearest(model, image) {
    const near = model.neighbours ? model.neighbours.subarray(image * model.near, (image + 1) * model.near) : [];
    return Array.from(near).filter((one) => one !== UNKNOWN);
  }

  alike(model, image) {
    return this.nearest(model, image).filter((one) => this.data.labels[one] === this.data.labels[image]).length;
  }

  model(key) {
    return this.data.models.find((one) => one.key === key) || null;
  }

  // One line for those who hear it.
  told(image) {
    const said = this.data.models
      .filter((model) => model.predicted && model.predicted[image] !== UNKNOWN)
      .map((model) => `${model.name}: ${this.className(model.predicted[image])}${this.isRight(model, image) ? "" : ", wrong"}`);
    const part = this.part(image) && `, ${this.part(image)}`;
    return [`${this.data.files[image]}, class ${this.trueClass(image)}${part}`, ...said].join(". ");
  }

  found(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const isClass = this.data.classes.map((name) => name.toLowerCase().includes(wanted));
    return this.all.filter((i) => isClass[this.data.labels[i]] || this.data.lowerFiles[i].includes(wanted));
  }

  // What "Show" offers: a title and the images, in order.
  offers() {
    const [after, before] = [this.model("finetuned"), this.model("supervised")];
    const offers = [];
    const offer = (title, images) => offers.push({ title, images });
    if (after?.predicted && before?.predicted) {
      const pick = (now, then) => () =>
        this.all.filter((i) => this.isRight(after, i) === now && this.isRight(before, i) === then);
      offer(`${after.name} right, ${before.name} wrong`, pick(true, false));
      offer(`${before.name} right, ${after.name} wrong`, pick(false, true));
      offer("Both wrong", pick(false, false));
    }
    const judge = after?.predicted ? after : before?.predicted ? before : null;
    if (judge?.confidence) {
      offer(`Surest mistakes of ${judge.name}`, () =>
        this.all
          .filter((i) => this.isRight(judge, i) === false)
          .sort((a, b) => judge.confidence[b] - judge.confidence[a] || a - b)
          .slice(0, 60),
      );
    }
    offer("24 at random", () => shuffled(this.all, Date.now()).slice(0, 24));
    return offers;
  }
}

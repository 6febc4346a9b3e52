// One plot of a chart: axes, lines with their names, and the mark that follows hand or keys.

const ROW = 14; // pixels between two lines of text
const FEW = 25; // so many values or fewer have a dot each
const BELOW = 36; // under the plot: numbers and the axis' name
const MARKERS = {
  o: (x, y, r) => svg("circle", { cx: x, cy: y, r }),
  s: (x, y, r) => svg("rect", { x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 }),
  "^": (x, y, r) => svg("path", { d: `M${x},${y - r * 1.2}l${r * 1.15},${r * 2}h${-r * 2.3}z` }),
};

const ruler = document.createElement("canvas").getContext("2d");

function widest(texts, node) {
  const { fontFamily } = getComputedStyle(node);
  ruler.font = `12px ${fontFamily}`;
  return Math.max(0, ...texts.map((text) => ruler.measureText(text).width));
}

class Panel {
  // chart: whose panel it is; spec: its title, lines and how values are written; node: where it goes
  constructor(chart, spec, node) {
    Object.assign(this, { chart, spec });
    this.xs = rising(spec.lines.map((line) => chart.placesOf(line.x)));
    this.values = html("p", { class: "ch-values" });
    this.plot = html("div", { class: "ch-plot", role: "application", "aria-roledescription": "chart" });
    if (this.xs.length) this.plot.tabIndex = 0;
    this.head = html("div", { class: "ch-head" }, html("p", { class: "ch-title" }, spec.title), this.values);
    node.append(html("div", { class: "ch-panel" }, this.head, this.plot));
    const [first, last] = [this.xs[0], this.xs[this.xs.length - 1]].map((x) => chart.said(x));
    this.plot.setAttribute("aria-label", `${chart.title}${spec.title}, ${first} to ${last}. Arrow keys go along it.`);
    this.plot.placeOf = (x) => this.plot.getBoundingClientRect().left + this.x.pixel(x);
  }

  // Values of a line at a place of the axis; undefined where it wasn't measured.
  at(line, x) {
    const place = this.chart.placesOf(line.x).indexOf(x);
    return place < 0 ? {} : { y: line.y[place], ends: line.ends?.[place] };
  }

  // All lines of this panel, faint ones too, with their points in the window.
  inWindow() {
    const [from, to] = this.chart.group.window;
    const all = this.spec.lines.flatMap((line) => [line, ...(line.faint || [])]);
    return all.flatMap((line) => {
      const found = [];
      this.chart.placesOf(line.x).forEach((x, i) => {
        if (x >= from && x <= to) found.push(line.y[i], ...(line.ends?.[i] || []), ...(line.seeds?.[i] || []));
      });
      return found.filter(FINITE);
    });
  }

  // Where the numbers of the vertical axis stand, and how wide they are.
  scale([low, high], height) {
    const margin = high > low ? 0.07 * (high - low) : 0.1 * Math.abs(high) || 1;
    const floor = this.spec.floor ?? -Infinity;
    this.range = [Math.max(low - margin, Math.min(floor, low)), high + margin];
    this.ticks = roundNumbers(...this.range, Math.min(6, Math.max(3, Math.floor(height / 30))));
    this.ticks.texts = this.ticks.found.map((value) => onAxis(value, this.ticks.step));
    return widest(this.ticks.texts, this.plot);
  }

  draw(left, right) {
    const [width, height] = [this.plot.clientWidth, this.plot.clientHeight];
    const { group } = this.chart;
    const below = this.chart.below;
    this.x = new Axis(group.window, [left, width - right], group.log);
    this.y = new Axis(this.range, [height - below, 4]);
    const [x0, x1, y0, y1] = [left, width - right, height - below, 4];
    const grid = svg("g", { class: "ch-axis" });
    this.ticks.found.forEach((value, i) => {
      const y = this.y.pixel(value);
      grid.append(svg("line", { x1: x0, x2: x1, y1: y, y2: y }));
      grid.append(svg("text", { x: x0 - 6, y: y + 4, "text-anchor": "end" }, this.ticks.texts[i]));
    });
    grid.append(svg("line", { class: "ch-base", x1: x0, x2: x1, y1: y0, y2: y0 }));
    this.marksBelow(x0, x1).forEach(([x, ...texts]) => {
      grid.append(svg("line", { class: "ch-base", x1: x, x2: x, y1: y0, y2: y0 + 3 }));
      texts.forEach((text, k) => grid.append(svg("text", { x, y: y0 + 15 + k * 13, "text-anchor": "middle" }, text)));
    });
    grid.append(svg("text", { x: (x0 + x1) / 2, y: height - 4, "text-anchor": "middle" }, this.chart.spec.x.name));
    // A drawing within the drawing cuts off what lies outside the axes; a little more, so that marks stay whole.
    const field = svg("svg", { x: x0 - 5, y: 0, width: x1 - x0 + 10, height: y0 + 1, viewBox: `${x0 - 5} 0 ${x1 - x0 + 10} ${y0 + 1}` });
    this.spec.lines.forEach((line) => field.append(...(line.faint || []).map((one) => this.line(one, line, "ch-faint"))));
    if (this.spec.saved) field.append(...this.saved());
    this.spec.lines.forEach((line) => field.append(this.line(line, line, "ch-line"), ...this.dots(line)));
    this.cursor = svg("g", { class: "ch-cursor" });
    this.band = svg("rect", { class: "ch-band", y: y1, height: y0 - y1, width: 0 });
    const whole = svg("svg", { width, height, "aria-hidden": "true" }, this.band, grid, field, ...this.names(), this.cursor);
    this.plot.replaceChildren(whole);
    this.show(group.cursor);
  }

  // Pixels and texts under the axis, those that would touch their right neighbour left out.
  marksBelow(from, to) {
    const { marks } = this.chart.spec.x;
    if (!marks) {
      const [low, high] = this.chart.group.window;
      const { found, step } = roundNumbers(low, high, Math.min(7, Math.max(2, Math.floor((to - from) / 54))), true);
      return found.map((value) => [this.x.pixel(value), onAxis(value, step)]);
    }
    let free = Infinity;
    return [...marks].reverse().map(({ x, text, below }) => {
      const [at, half] = [this.x.pixel(x), widest([text, below], this.plot) / 2];
      if (at + half + 6 > free) return [at];
      free = at - half;
      return below ? [at, text, below] : [at, text];
    });
  }

  line(line, look, name) {
    const xs = this.chart.placesOf(line.x);
    let path = "";
    let pen = "M";
    line.y.forEach((y, i) => {
      if (FINITE(y)) path += `${pen}${this.x.pixel(xs[i]).toFixed(2)},${this.y.pixel(y).toFixed(2)}`;
      pen = FINITE(y) ? "L" : "M";
    });
    const dash = name === "ch-line" ? look.dash.map((one) => (one * 1.8).toFixed(1)).join(" ") : "";
    return svg("path", { class: `${name} ch-${look.colour}`, d: path, "stroke-dasharray": dash || "none" });
  }

  // Dots of values that have no line to show them, or that are few; intervals, and single seeds as rings.
  dots(line) {
    const xs = this.chart.placesOf(line.x);
    const [from, to] = this.chart.group.window;
    const few = line.y.filter((y, i) => FINITE(y) && xs[i] >= from && xs[i] <= to).length <= FEW;
    const dodge = this.dodge(line);
    const found = svg("g", { class: `ch-dots ch-${line.colour}` });
    line.y.forEach((y, i) => {
      if (!FINITE(y) || (!few && (FINITE(line.y[i - 1]) || FINITE(line.y[i + 1])))) return;
      const x = this.x.pixel(xs[i]);
      const [low, high] = (line.ends?.[i] || []).map((end) => this.y.pixel(end));
      if (low) found.append(svg("line", { class: "ch-ends", x1: x + dodge, x2: x + dodge, y1: low, y2: high }));
      for (const one of line.seeds?.[i] || []) found.append(svg("circle", { class: "ch-seed", cx: x + dodge, cy: this.y.pixel(one), r: 2.4 }));
      found.append(MARKERS[line.marker || "o"](x, this.y.pixel(y), line.marker ? 4.4 : 2.4));
    });
    return [found];
  }

  // Intervals at one place stand beside each other.
  dodge(line) {
    const all = this.spec.lines;
    return line.ends ? 4 * (all.indexOf(line) - (all.length - 1) / 2) : 0;
  }

  // From the baseline's number of labels to the one that is enough after pretraining.
  saved() {
    const { y: top, from, to, ends, says } = this.spec.saved;
    const y = this.y.pixel(top);
    const [x0, base] = [this.x.from, this.y.from];
    const start = this.x.pixel(from);
    const parts = [];
    const label = (x, height, anchor) => says.forEach((text, k) => parts.push(svg("text", { class: "ch-told", x, y: height - 5 - ROW * (says.length - 1 - k), "text-anchor": anchor }, text)));
    if (to === null) {
      parts.push(svg("line", { class: "ch-never", x1: x0, x2: start, y1: y, y2: y }));
      label(x0 + 4, y, "start");
      return parts;
    }
    const end = this.x.pixel(to);
    if (ends) {
      const [low, high] = [ends[0] === null ? x0 : this.x.pixel(ends[0]), this.x.pixel(ends[1])];
      parts.push(svg("line", { class: "ch-sure ch-blue", x1: low, x2: high, y1: y, y2: y }));
    }
    parts.push(svg("line", { class: "ch-arrow", x1: start - 7, x2: end + 6, y1: y, y2: y }));
    parts.push(svg("path", { class: "ch-tip", d: `M${end},${y}l9,-4v8z` }));
    parts.push(svg("line", { class: "ch-never", x1: end, x2: end, y1: base, y2: y }));
    const isRight = end > x0 + 0.6 * (this.x.to - x0);
    label(end + (isRight ? -6 : 6), base, isRight ? "end" : "start");
    return parts;
  }

  // Each line's name beside its last point, moved apart where two would touch.
  names() {
    const [from, to] = this.chart.group.window;
    const found = [];
    for (const line of this.spec.lines.filter((one) => one.name)) {
      const xs = this.chart.placesOf(line.x);
      const last = xs.findLastIndex((x, i) => x >= from && x <= to && FINITE(line.y[i]));
      if (last >= 0) found.push({ line, x: this.x.pixel(xs[last]) + 8, y: this.y.pixel(line.y[last]) });
    }
    found.sort((a, b) => a.y - b.y);
    const bottom = this.y.from - 2;
    found.forEach((one, i) => (one.y = Math.max(one.y, i ? found[i - 1].y + ROW : 9)));
    for (let i = found.length - 1; i >= 0; i -= 1) {
      const most = i + 1 < found.length ? found[i + 1].y - ROW : bottom;
      found[i].y = Math.min(found[i].y, most);
    }
    return found.map(({ line, x, y }) => svg("text", { class: `ch-name ch-${line.colour}`, x, y: y + 4 }, line.name));
  }

  // What is measured at a place of the axis, in words; `soft`: the interval, or the other seeds' values.
  told(x) {
    const parts = this.spec.lines.map((line) => {
      const { y, ends } = this.at(line, x);
      const range = ends ? ends.map((end) => written(end, { ...this.spec, unit: "" })).join(" – ") : "";
      return { line, text: FINITE(y) ? written(y, this.spec) : "–", soft: range || this.faintAt(line, x) };
    });
    return { place: this.chart.said(x), parts };
  }

  // Smallest and largest of the other seeds' values.
  faintAt(line, x) {
    const found = (line.faint || []).map((one) => this.at(one, x).y).filter(FINITE);
    if (!found.length) return "";
    const ends = [Math.min(...found), Math.max(...found)].map((end) => written(end, this.spec));
    return ends[0] === ends[1] ? ends[0] : `${ends[0]} – ${ends[1]}`;
  }

  // Keep as much room for the values as the longest ones need, so that the plot never moves under the hand.
  reserve() {
    if (this.reserved === this.plot.clientWidth || !this.xs.length) return;
    this.reserved = this.plot.clientWidth;
    const lengths = this.xs.map((x) => this.told(x).parts.reduce((sum, { text, soft }) => sum + text.length + soft.length, 0));
    this.values.style.minHeight = "";
    this.write(this.xs[lengths.indexOf(Math.max(...lengths))]);
    this.values.style.minHeight = `${this.values.offsetHeight}px`;
  }

  write(x) {
    const { place, parts } = this.told(x);
    const said = parts.map(({ line, text, soft }) => {
      const name = line.name ? [html("span", { class: `ch-${line.colour}` }, line.name), " "] : [];
      const beside = soft ? [html("span", { class: "ch-soft" }, ` (${soft})`)] : [];
      return html("span", { class: "ch-value" }, ...name, html("b", {}, text), ...beside);
    });
    this.values.replaceChildren(html("span", { class: "ch-place" }, place), ...said);
  }

  // Mark a place of the axis, or none: then the values are those of the last place.
  show(x) {
    if (!this.x || !this.xs.length) return;
    const [from, to] = this.chart.group.window;
    this.write(x ?? this.xs.filter((one) => one >= from && one <= to).pop() ?? this.xs[this.xs.length - 1]);
    if (x === null || !(x >= from && x <= to)) {
      this.cursor.replaceChildren();
      return;
    }
    const at = this.x.pixel(x);
    const dots = this.spec.lines.flatMap((line) => {
      const { y } = this.at(line, x);
      return FINITE(y) ? [svg("circle", { class: `ch-${line.colour}`, cx: at, cy: this.y.pixel(y), r: 4.5 })] : [];
    });
    this.cursor.replaceChildren(svg("line", { x1: at, x2: at, y1: 4, y2: this.y.from }), ...dots);
  }
}

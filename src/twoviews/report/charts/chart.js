// Charts in place of the page's pictures of curves; those of a group show the same part of the axis and the same place.

const FAR = 6; // pixels that a hand moves before it means to zoom
const MANY = 8; // places on the axis from which zooming is of use
const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };

class Group {
  constructor(name, live) {
    Object.assign(this, { name, live, charts: [], cursor: null, tools: null });
  }

  begin() {
    this.log = Boolean(this.charts[0].spec.x.log);
    this.xs = rising(this.charts.flatMap((chart) => chart.panels.map((panel) => panel.xs)));
    const [low, high] = [this.xs[0], this.xs[this.xs.length - 1]];
    const room = this.log ? Math.exp(0.06 * Math.log(high / low)) : 1;
    this.whole = low === high ? [low - 0.5, high + 0.5] : [low / room, high * room];
    this.window = this.whole;
    this.canZoom = this.xs.length >= MANY;
    this.addTools();
  }

  addTools() {
    const place = document.querySelector(`[data-chart-tools="${this.name}"]`);
    if (!place || !this.canZoom) return;
    const button = (text, label, act) => {
      const node = html("button", { type: "button", "aria-label": label, title: label }, text);
      node.addEventListener("click", act);
      return node;
    };
    this.all = button("all epochs", "Show all epochs", () => this.reset());
    place.append(button("+", "Zoom in", () => this.zoomBy(0.5)), button("−", "Zoom out", () => this.zoomBy(2)), this.all);
    this.all.disabled = true;
  }

  get isZoomed() {
    return this.window !== this.whole;
  }

  draw() {
    for (const chart of this.charts) chart.draw();
  }

  // Lowest and highest value in the window, of all panels that are to be compared.
  rangeOf(share) {
    const panels = this.charts.flatMap((chart) => chart.panels).filter((panel) => panel.spec.share === share);
    const values = panels.flatMap((panel) => panel.inWindow());
    return values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : [0, 1];
  }

  // Shows a part of the axis, unless it holds fewer than two places.
  zoomTo(from, to) {
    const [low, high] = this.whole;
    const part = [Math.max(low, Math.min(from, to)), Math.min(high, Math.max(from, to))];
    if (part[0] <= low && part[1] >= high) return this.reset();
    const within = this.xs.filter((x) => x >= part[0] && x <= part[1]);
    if (within.length < 2) return this.say("Too few epochs there to zoom in.");
    this.window = part;
    const [first, last, most] = [within[0], within[within.length - 1], this.xs[this.xs.length - 1]];
    this.changed(`Epochs ${first} to ${last} of ${most}.`);
  }

  zoomBy(factor) {
    const [from, to] = this.window;
    const about = this.cursor ?? (from + to) / 2;
    this.zoomTo(about - (about - from) * factor, about + (to - about) * factor);
  }

  reset() {
    if (!this.isZoomed) return;
    this.window = this.whole;
    this.changed("All epochs.");
  }

  changed(words) {
    if (this.all) this.all.disabled = !this.isZoomed;
    this.draw();
    this.say(words);
  }

  say(words) {
    this.live.textContent = words;
  }

  point(x) {
    if (x === this.cursor) return;
    this.cursor = x;
    for (const chart of this.charts) chart.panels.forEach((panel) => panel.show(x));
  }

  // Bring a place into the window without changing how much of the axis it shows.
  reveal(x) {
    const [from, to] = this.window;
    if (x >= from && x <= to) return;
    const by = x < from ? x - from : x - to;
    this.window = [from + by, to + by];
    this.draw();
  }
}

class Chart {
  constructor(frame, spec, places, group) {
    Object.assign(this, { frame, spec, places, group });
    const heading = frame.parentElement.querySelector("h4");
    this.title = heading ? `${heading.textContent}: ` : "";
    this.body = html("div", { class: "ch-body" });
    this.panels = spec.panels.map((panel) => new Panel(this, panel, this.body));
    this.below = BELOW + (spec.x.marks?.some((mark) => mark.below) ? 13 : 0);
    group.charts.push(this);
    frame.append(this.body);
    frame.parentElement.classList.add("ch-on");
    this.panels.forEach((panel) => listen(panel, group));
    new ResizeObserver(() => this.draw()).observe(this.body);
  }

  placesOf(number) {
    return this.places[number];
  }

  said(x) {
    return this.spec.x.marks?.find((mark) => mark.x === x)?.said ?? `Epoch ${WHOLE.format(x)}`;
  }

  draw() {
    if (!this.body.clientWidth) return;
    this.panels.forEach((panel) => panel.reserve());
    const widths = this.panels.map((panel) => panel.scale(this.group.rangeOf(panel.spec.share), panel.plot.clientHeight - this.below));
    const names = widest(this.spec.panels.flatMap((panel) => panel.lines.map((line) => line.name)), this.body);
    const last = widest([WHOLE.format(this.group.xs[this.group.xs.length - 1])], this.body) / 2;
    this.panels.forEach((panel) => panel.draw(Math.ceil(Math.max(...widths)) + 8, Math.ceil(Math.max(names && names + 10, last, 10))));
  }
}

// What hand and keys do on a panel.
function listen(panel, group) {
  const { plot } = panel;
  let start = null;
  const placeOf = (event) => event.clientX - plot.getBoundingClientRect().left;
  const visible = () => panel.xs.filter((x) => x >= group.window[0] && x <= group.window[1]);
  const follow = (event) => {
    if (!visible().length) return;
    group.point(nearest(visible(), placeOf(event), (x) => panel.x.pixel(x)));
  };
  const band = (from, to) => {
    const [low, high] = [from, to].map((x) => Math.min(Math.max(x, panel.x.from), panel.x.to)).sort((a, b) => a - b);
    panel.band.setAttribute("x", low);
    panel.band.setAttribute("width", high - low);
  };
  const end = () => {
    start = null;
    band(0, 0);
  };
  plot.addEventListener("pointerdown", (event) => {
    follow(event);
    // A finger moves along the curve instead: it has no other way to point.
    if (event.button !== 0 || event.pointerType === "touch" || !group.canZoom) return;
    start = placeOf(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    follow(event);
    if (start !== null) band(start, placeOf(event));
  });
  plot.addEventListener("pointerup", (event) => {
    const [from, to] = [start, placeOf(event)];
    if (from === null) return;
    end();
    if (Math.abs(to - from) >= FAR) group.zoomTo(panel.x.value(from), panel.x.value(to));
  });
  plot.addEventListener("pointercancel", end);
  plot.addEventListener("pointerleave", (event) => {
    if (start === null && event.pointerType !== "touch") group.point(null);
  });
  plot.addEventListener("blur", () => group.point(null));
  plot.addEventListener("dblclick", () => group.reset());
  plot.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step !== undefined) {
      const at = group.cursor === null ? null : panel.xs.indexOf(nearest(panel.xs, group.cursor));
      const here = visible();
      const from = panel.xs.indexOf(step > 0 ? here[0] : here[here.length - 1]);
      const to = Number.isFinite(step) ? (at === null ? from : at + step) : step < 0 ? 0 : panel.xs.length - 1;
      const x = panel.xs[Math.min(Math.max(to, 0), panel.xs.length - 1)];
      group.reveal(x);
      group.point(x);
      const { place, parts } = panel.told(x);
      group.say(`${place}: ${parts.map(({ line, text, soft }) => `${line.name} ${text}${line.ends && soft ? `, interval ${soft}` : ""}`.trim()).join(", ")}`);
    } else if (event.key === "Escape") {
      if (start !== null) end();
      else if (group.isZoomed) group.reset();
      else group.point(null);
    } else if ((event.key === "+" || event.key === "=") && group.canZoom) group.zoomBy(0.5);
    else if (event.key === "-" && group.canZoom) group.zoomBy(2);
    else if (event.key === "0") group.reset();
    else return;
    event.preventDefault();
  });
}

function begin() {
  const data = JSON.parse(document.getElementById("charts-data").textContent);
  const live = html("p", { class: "ch-live", role: "status", "aria-live": "polite" });
  document.querySelector("main").append(live);
  const groups = new Map();
  for (const frame of document.querySelectorAll("[data-chart]")) {
    const spec = data.charts[frame.dataset.chart];
    if (!spec) continue;
    if (!groups.has(spec.group)) groups.set(spec.group, new Group(spec.group, live));
    new Chart(frame, spec, data.places, groups.get(spec.group));
  }
  for (const group of groups.values()) {
    group.begin();
    group.draw();
  }
  document.documentElement.dataset.charts = "ready";
}

begin();

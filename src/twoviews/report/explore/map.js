// One map: a canvas of points, and a second one over it for marks that follow the hand.

const GRID = 64; // cells a side, to find the point under the hand
const PAD = 10; // pixels between the outermost points and the edge
const REACH = 14; // pixels from which a point is still meant
const MOST_NAMED = 20; // classes whose names are written on the map
const FAINT = 0.6; // of a test image's strength, for one of training or validation

const SHAPES = [
  (c, r) => c.arc(0, 0, r, 0, 2 * Math.PI),
  (c, r) => polygon(c, [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]], r),
  (c, r) => polygon(c, [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]], r),
  (c, r) => polygon(c, [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]], r),
  (c, r) => polygon(c, [[0, 1.2], [1.1, -0.8], [-1.1, -0.8]], r),
];

function polygon(context, corners, r) {
  corners.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x * r, y * r));
  context.closePath();
}

// Names cut at their end where they are long; those that would then look alike lose their middle instead.
function briefly(names, longest) {
  const letters = names.map((name) => [...name]);
  const cut = letters.map((all) => (all.length <= longest ? all.join("") : `${all.slice(0, longest - 1).join("").trimEnd()}…`));
  const middle = (all) => `${all.slice(0, longest - 1 - Math.floor(longest / 3)).join("")}…${all.slice(-Math.floor(longest / 3)).join("")}`;
  return cut.map((one, k) => (cut.filter((other) => other === one).length === 1 || letters[k].length <= longest ? one : middle(letters[k])));
}

// A point's picture; hollow for an image that isn't a test image.
function stamp(colour, shape, radius, isHollow = false) {
  const side = 2 * Math.ceil(radius * 1.3) + 2;
  const node = make("canvas", { width: side, height: side });
  const context = node.getContext("2d");
  context.translate(side / 2, side / 2);
  context.fillStyle = colour;
  context.beginPath();
  const line = Math.max(1, 0.4 * radius);
  SHAPES[shape % SHAPES.length](context, isHollow ? Math.max(0.5, radius - line / 2) : radius);
  if (isHollow) {
    [context.lineWidth, context.strokeStyle] = [line, colour];
    context.stroke();
  } else {
    context.fill();
  }
  return node;
}

// A look's pixels: its colour, and of each pixel it covers where that is from the middle and how much of it.
function mask(look, radius, isHollow) {
  const node = stamp(look.colour, look.shape, radius, isHollow);
  const { width } = node;
  const { data } = node.getContext("2d").getImageData(0, 0, width, width);
  const cover = [];
  for (let k = 0; k < width * width; k += 1) {
    if (data[4 * k + 3]) cover.push((k % width) - width / 2, Math.floor(k / width) - width / 2, data[4 * k + 3] / 255);
  }
  return { colour: look.colour.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16)), cover: Float32Array.from(cover), reach: width / 2 };
}

function packed(colour) {
  const [red, green, blue] = colour.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
  return new Uint32Array(Uint8Array.of(red, green, blue, 255).buffer)[0];
}

function blend({ data, width, height }, { colour, cover, reach }, x, y, alpha) {
  if (x < -reach || y < -reach || x > width + reach || y > height + reach) return;
  const [red, green, blue] = colour;
  for (let k = 0; k < cover.length; k += 3) {
    const [px, py] = [x + cover[k], y + cover[k + 1]];
    if (px < 0 || py < 0 || px >= width || py >= height) continue;
    const at = 4 * (py * width + px);
    const part = alpha * cover[k + 2];
    data[at] += part * (red - data[at]);
    data[at + 1] += part * (green - data[at + 1]);
    data[at + 2] += part * (blue - data[at + 2]);
  }
}

function isInside(x, y, path) {
  let inside = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i, i += 1) {
    const [ax, ay] = path[i];
    const [bx, by] = path[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

class PointMap {
  // board: what all maps share; node: where to put the canvases; model: whose map it is
  constructor(board, node, model) {
    Object.assign(this, { board, node, model, zoom: 1, middle: [0.5, 0.5], drag: null, waiting: false });
    this.base = make("canvas", { "aria-hidden": "true" });
    this.over = make("canvas", { "aria-hidden": "true", class: "ex-over" });
    node.append(this.base, this.over);
    new ResizeObserver(() => this.fit()).observe(node);
    this.listen();
  }

  get points() {
    return this.model.maps[this.board.kind] || null;
  }

  // Called when another kind of map is shown.
  reload() {
    [this.zoom, this.middle] = [1, [0.5, 0.5]];
    this.place();
  }

  // Called when other images are shown: those that aren't have no place.
  place() {
    const points = this.points;
    const count = this.board.facts.data.count;
    this.x = new Float32Array(count).fill(NaN);
    this.y = new Float32Array(count).fill(NaN);
    this.cells = Array.from({ length: GRID * GRID }, () => []);
    for (const i of points ? this.board.facts.all : []) {
      if (points[2 * i] === UNKNOWN) continue;
      this.x[i] = points[2 * i] / 65534;
      this.y[i] = points[2 * i + 1] / 65534;
      this.cells[this.cell(this.y[i]) * GRID + this.cell(this.x[i])].push(i);
    }
    this.restyle();
  }

  cell(value) {
    return Math.max(0, Math.min(GRID - 1, Math.floor(value * GRID)));
  }

  medians() {
    const { groups, texts } = this.board.way.names?.(this.board, this.model) || { texts: [] };
    if (texts.length > MOST_NAMED) return [];
    const middle = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];
    const members = texts.map(() => []);
    for (const i of this.board.facts.tests) if (groups && groups[i] !== UNKNOWN && this.x[i] >= 0) members[groups[i]].push(i);
    const written = [briefly(texts, 24), briefly(texts, 10)];
    return members
      .map((rows, k) => ({ texts: [...new Set(written.map((one) => one[k]))], n: rows.length, x: middle(rows.map((i) => this.x[i])), y: middle(rows.map((i) => this.y[i])) }))
      .filter((one) => one.n)
      .sort((a, b) => b.n - a.n);
  }

  // Called when colours change: each image's group, and the order of drawing with what matters most on top.
  restyle() {
    this.groups = this.board.groupsOf(this.model);
    this.names = this.medians();
    const top = this.board.topGroup;
    const order = this.board.order;
    this.order = top < 0 ? order : [...order.filter((i) => this.groups[i] !== top), ...order.filter((i) => this.groups[i] === top)];
    this.draw();
  }

  fit() {
    const { clientWidth, clientHeight } = this.node;
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    [this.width, this.height] = [clientWidth, clientHeight];
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.max(1, Math.round(clientWidth * this.ratio));
      canvas.height = Math.max(1, Math.round(clientHeight * this.ratio));
    }
    this.draw();
  }

  get scale() {
    return this.zoom * (Math.min(this.width, this.height) - 2 * PAD);
  }

  at(i) {
    return [
      this.width / 2 + (this.x[i] - this.middle[0]) * this.scale,
      this.height / 2 + (this.y[i] - this.middle[1]) * this.scale,
    ];
  }

  unit(px, py) {
    return [this.middle[0] + (px - this.width / 2) / this.scale, this.middle[1] + (py - this.height / 2) / this.scale];
  }

  draw() {
    if (this.waiting || !this.groups) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.drawPoints();
      this.drawMarks();
    });
  }

  drawPoints() {
    const { board, ratio } = this;
    const context = this.base.getContext("2d", { willReadFrequently: true });
    context.setTransform(1, 0, 0, 1, 0, 0);
    const crowding = (0.36 * Math.min(this.width, this.height)) / Math.sqrt(board.facts.all.length);
    const radius = Math.max(1.3, Math.min(4, crowding)) * Math.min(2.2, Math.sqrt(this.zoom)) * ratio;
    const [stamps, hollow] = this.masks(radius);
    const { facts } = board;
    // Blended here and put on the canvas at once: thousands of single drawings would take as many times longer.
    const image = context.createImageData(this.base.width, this.base.height);
    const pixels = new Uint32Array(image.data.buffer);
    pixels.fill(packed(board.theme.halo));
    const passes = board.selectedCount ? [[0, 0.13], [1, 1]] : [[0, 0.82]];
    const [left, up, scale] = [this.width / 2 - this.middle[0] * this.scale, this.height / 2 - this.middle[1] * this.scale, this.scale];
    for (const [wanted, alpha] of passes) {
      for (const i of this.order) {
        if (board.selected[i] !== wanted || !(this.x[i] >= 0)) continue;
        const x = Math.round((left + this.x[i] * scale) * ratio);
        const y = Math.round((up + this.y[i] * scale) * ratio);
        if (facts.isTest(i)) blend(image, stamps[this.groups[i]], x, y, alpha);
        else blend(image, hollow[this.groups[i]], x, y, wanted ? alpha : FAINT * alpha);
      }
    }
    context.putImageData(image, 0, 0);
    this.drawNames(context);
  }

  // Made anew only where looks or size have changed.
  masks(radius) {
    if (this.masked !== radius || this.maskedLooks !== this.board.looks) {
      [this.masked, this.maskedLooks] = [radius, this.board.looks];
      this.stamps = [false, true].map((isHollow) => this.board.looks.map((look) => mask(look, radius, isHollow)));
    }
    return this.stamps;
  }

  drawNames(context) {
    const { ratio, board } = this;
    const size = 11.5;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = `600 ${size}px system-ui, "Liberation Sans", Arial, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 3.5;
    const taken = [];
    const isFree = ({ x, y, half }) => !taken.some((other) => Math.abs(other.y - y) < size + 2 && Math.abs(other.x - x) < half + other.half);
    for (const one of this.names) {
      const middle = this.height / 2 + (one.y - this.middle[1]) * this.scale;
      if (middle < size || middle > this.height - size) continue;
      // At the middle of its group, else a line above or below it; whole, else shortened.
      const places = [0, -1, 1].flatMap((shift) =>
        one.texts.map((text) => {
          const half = context.measureText(text).width / 2 + 2;
          const x = Math.max(half, Math.min(this.width - half, this.width / 2 + (one.x - this.middle[0]) * this.scale));
          return { text, half, x, y: middle + shift * (size + 3) };
        }),
      );
      const place = places.find((it) => it.half * 2 <= this.width && isFree(it));
      if (!place) continue;
      taken.push(place);
      context.strokeStyle = board.theme.halo;
      context.strokeText(place.text, place.x, place.y);
      context.fillStyle = board.theme.ink;
      context.fillText(place.text, place.x, place.y);
    }
  }

  drawMarks() {
    const { board, ratio } = this;
    const context = this.over.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.over.width, this.over.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const i of board.near(this.model)) this.ring(context, i, 5, board.isAlike(i) ? board.theme.good : board.theme.bad, 2);
    this.ring(context, board.kept, 8, board.theme.ink, 2.5);
    this.ring(context, board.current, 7, board.theme.ink, 2);
    if (!this.drag?.path || this.drag.mode === "move") return;
    context.beginPath();
    polygon(context, this.drag.mode === "box" ? this.corners() : this.drag.path, 1);
    context.globalAlpha = 0.12;
    context.fillStyle = board.theme.ink;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.2;
    context.setLineDash([4, 3]);
    context.strokeStyle = board.theme.ink;
    context.stroke();
    context.setLineDash([]);
  }

  ring(context, i, radius, colour, width) {
    if (i < 0 || !(this.x[i] >= 0)) return;
    const [x, y] = this.at(i);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = width + 2.5;
    context.strokeStyle = this.board.theme.halo;
    context.stroke();
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }

  corners() {
    const [[ax, ay], [bx, by]] = [this.drag.path[0], this.drag.path.at(-1)];
    return [[ax, ay], [bx, ay], [bx, by], [ax, by]];
  }

  // The image nearest to a place on the canvas, −1 where none is within reach.
  hit(px, py) {
    const [ux, uy] = this.unit(px, py);
    const reach = REACH / this.scale;
    let [best, least] = [-1, reach * reach];
    for (let row = this.cell(uy - reach); row <= this.cell(uy + reach); row += 1) {
      for (let column = this.cell(ux - reach); column <= this.cell(ux + reach); column += 1) {
        for (const i of this.cells[row * GRID + column]) {
          const away = (this.x[i] - ux) ** 2 + (this.y[i] - uy) ** 2;
          if (away < least || (away === least && i < best)) [best, least] = [i, away];
        }
      }
    }
    return best;
  }

  // The image that an arrow key leads to: near, and more along the arrow than across it.
  towards(from, dx, dy) {
    let [best, least] = [-1, Infinity];
    const [x, y] = from >= 0 && this.x[from] >= 0 ? [this.x[from], this.y[from]] : [NaN, NaN];
    for (const i of this.board.facts.all) {
      if (i === from || !(this.x[i] >= 0)) continue;
      // Without a start, the image nearest to the middle of what is seen.
      const [ex, ey] = Number.isNaN(x) ? [this.x[i] - this.middle[0], this.y[i] - this.middle[1]] : [this.x[i] - x, this.y[i] - y];
      const [along, across] = [ex * dx + ey * dy, Math.abs(ex * dy) + Math.abs(ey * dx)];
      if (!Number.isNaN(x) && (along < 1e-6 || across > along)) continue;
      const away = Math.hypot(ex, ey) + (Number.isNaN(x) ? 0 : across);
      if (away < least) [best, least] = [i, away];
    }
    return best;
  }

  zoomBy(factor, px = this.width / 2, py = this.height / 2) {
    const [ux, uy] = this.unit(px, py);
    this.zoom = Math.max(1, Math.min(40, this.zoom * factor));
    this.middle = [ux - (px - this.width / 2) / this.scale, uy - (py - this.height / 2) / this.scale];
    this.hold();
  }

  whole() {
    this.zoom = 1;
    this.hold();
  }

  // Keep the points in sight: as zoomed in, the middle of what is seen lies on the map.
  hold() {
    const room = 0.5 - 0.5 / this.zoom;
    this.middle = this.middle.map((value) => Math.max(0.5 - room, Math.min(0.5 + room, value)));
    this.node.classList.toggle("is-zoomed", this.zoom > 1);
    this.draw();
  }

  reveal(i) {
    const [x, y] = this.at(i);
    if (x >= PAD && y >= PAD && x <= this.width - PAD && y <= this.height - PAD) return;
    this.middle = [this.x[i], this.y[i]];
    this.hold();
  }

  listen() {
    const place = (event) => {
      const box = this.node.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.over.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.over.setPointerCapture(event.pointerId);
      this.drag = { mode: this.board.mode, start: place(event), from: [...this.middle], path: null, adds: event.shiftKey };
    });
    this.over.addEventListener("pointermove", (event) => {
      const here = place(event);
      if (!this.drag) {
        this.board.point(this, this.hit(...here), event.pointerType === "mouse");
        return;
      }
      const [dx, dy] = [here[0] - this.drag.start[0], here[1] - this.drag.start[1]];
      if (!this.drag.path) {
        if (Math.hypot(dx, dy) < 4) return;
        this.drag.path = [this.drag.start];
        this.board.point(this, -1, false);
      }
      this.drag.path.push(here);
      if (this.drag.mode === "move") {
        this.middle = [this.drag.from[0] - dx / this.scale, this.drag.from[1] - dy / this.scale];
        this.hold();
      } else {
        this.drawMarks();
      }
    });
    this.over.addEventListener("pointerup", (event) => {
      const drag = this.drag;
      const path = drag?.path && (drag.mode === "box" ? this.corners() : drag.path);
      this.drag = null;
      if (!drag) return;
      if (!path) this.board.click(this, this.hit(...place(event)), event.shiftKey);
      else if (drag.mode !== "move") this.choose(path, drag);
      this.drawMarks();
    });
    this.over.addEventListener("pointercancel", () => {
      this.drag = null;
      this.drawMarks();
    });
    this.over.addEventListener("pointerleave", () => this.drag || this.board.point(this, -1, false));
    this.node.addEventListener(
      "wheel",
      (event) => {
        // The page scrolls on as usual until a map has been clicked or tabbed to.
        if (!event.ctrlKey && document.activeElement !== this.node) return;
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY / 300), ...place(event));
      },
      { passive: false },
    );
  }

  choose(path, drag) {
    const inside = this.board.facts.all.filter((i) => {
      if (!(this.x[i] >= 0)) return false;
      return isInside(...this.at(i), path);
    });
    this.board.choose(inside, `in the ${drag.mode === "box" ? "box" : "loop"} on ${this.model.name}`, drag.adds);
  }
}

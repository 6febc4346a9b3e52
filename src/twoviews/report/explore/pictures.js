// Pictures from the sheet: under the hand, as neighbours, as a grid.

const MOST_SHOWN = 240;

class Pictures {
  constructor(facts) {
    this.facts = facts;
    this.sheet = facts.data.sheet;
    this.ready = this.load();
  }

  // Decoded once; every small picture is then copied from it.
  async load() {
    if (!this.sheet) return;
    try {
      // Straight from the bytes, which needs no address that the page's policy would have to allow.
      this.whole = await createImageBitmap(new Blob([bytesOf(this.sheet.webp)], { type: "image/webp" }));
    } catch {
      this.sheet = null;
      return;
    }
    delete this.sheet.webp;
  }

  has(image) {
    return Boolean(this.sheet) && this.sheet.places[image] !== UNKNOWN;
  }

  paint(canvas, image) {
    canvas.dataset.image = image;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.whole || !this.has(image)) return;
    const { size, columns, places } = this.sheet;
    const [x, y] = [(places[image] % columns) * size, Math.floor(places[image] / columns) * size];
    context.drawImage(this.whole, x, y, size, size, 0, 0, canvas.width, canvas.height);
  }

  canvas(image) {
    const side = this.sheet ? this.sheet.size : 32;
    const node = make("canvas", { width: side, height: side, "aria-hidden": "true" });
    this.paint(node, image);
    return node;
  }

  // A picture to press. `frame`: "right", "wrong" or nothing.
  button(image, keep, frame = "") {
    const part = this.facts.part(image);
    const label = `${this.facts.data.files[image]}, class ${this.facts.trueClass(image)}${part && `, ${part}`}`;
    const said = { right: ", same class", wrong: ", another class" }[frame] || "";
    return make(
      "button",
      { type: "button", class: `ex-pic ${frame && `is-${frame}`} ${part && "is-other"}`, title: label, "aria-label": label + said, "data-image": image, onclick: () => keep(image) },
      this.has(image) ? this.canvas(image) : make("span", {}, this.facts.trueClass(image)),
    );
  }

  // The nearest images under one backbone, with how many share the class.
  row(model, image, keep) {
    const { labels } = this.facts.data;
    const near = this.facts.nearest(model, image);
    const same = near.map((one) => labels[one] === labels[image]);
    return {
      said: `${same.filter(Boolean).length} of ${near.length} share its class`,
      pictures: near.map((one, i) => this.button(one, keep, same[i] ? "right" : "wrong")),
    };
  }

  classLine(image) {
    const part = this.facts.part(image);
    return make("p", {}, "Class ", make("strong", {}, this.facts.trueClass(image)), part && ` · ${part}`);
  }

  verdicts(image) {
    if (!this.facts.isTest(image)) return make("p", { class: "note" }, "Predictions are of test images alone.");
    const rows = this.facts.data.models.filter((model) => model.predicted && model.predicted[image] !== UNKNOWN);
    return make(
      "ul",
      { class: "ex-said" },
      ...rows.map((model) => {
        const isRight = this.facts.isRight(model, image);
        const sure = this.facts.confidence(model, image);
        return make(
          "li",
          { class: isRight ? "is-right" : "is-wrong" },
          make("span", { class: "ex-mark", "aria-hidden": "true" }, isRight ? "✓" : "✗"),
          make("span", {}, model.name),
          make("span", {}, this.facts.className(model.predicted[image])),
          make("span", { class: "ex-sure" }, sure === null ? "" : `${Math.round(100 * sure)}%`),
        );
      }),
    );
  }

  kept(image, keep, clear) {
    if (image < 0) return [];
    const { files, models } = this.facts.data;
    const head = make(
      "div",
      { class: "ex-query" },
      this.has(image) ? this.canvas(image) : "",
      make(
        "div",
        {},
        make("p", { class: "ex-file" }, files[image]),
        this.classLine(image),
        this.verdicts(image),
      ),
    );
    const rows = models
      .filter((model) => model.neighbours)
      .map((model) => {
        const { said, pictures } = this.row(model, image, keep);
        return make(
          "div",
          { class: "ex-row", role: "group", "aria-label": `Nearest in the features of ${model.name}: ${said}` },
          make("p", {}, make("strong", {}, model.name), make("span", {}, said)),
          make("div", { class: "ex-strip" }, ...pictures),
        );
      });
    const title = rows.length ? (this.facts.data.splits ? "Its nearest test images" : "Its nearest images") : "This image";
    const close = make("button", { type: "button", class: "ex-plain", onclick: clear }, "Close");
    return [make("div", { class: "ex-title" }, make("h3", {}, title), close), head, ...rows];
  }

  chosen(images, title, keep, clear, ranked) {
    if (!images.length) return [];
    const { labels, classes } = this.facts.data;
    const close = make("button", { type: "button", class: "ex-plain", onclick: clear }, "Clear");
    const head = make("div", { class: "ex-title" }, make("h3", {}, title), close);
    const grid = make("div", { class: "ex-grid" });
    const groups = ranked
      ? [[null, images]]
      : [...new Set(images.map((i) => labels[i]))]
          .map((k) => [k, images.filter((i) => labels[i] === k)])
          .sort((a, b) => b[1].length - a[1].length || a[0] - b[0]);
    let room = MOST_SHOWN;
    const fill = () => {
      grid.replaceChildren();
      let left = room;
      for (const [k, members] of groups) {
        if (left <= 0) break;
        const shown = members.slice(0, left);
        left -= shown.length;
        const name = k === null ? "" : make("p", { class: "ex-class" }, make("strong", {}, k === UNKNOWN ? "unknown" : classes[k]), ` ${grouped.format(members.length)}`);
        grid.append(make("div", { class: "ex-group" }, name, make("div", { class: "ex-strip" }, ...shown.map((i) => this.button(i, keep)))));
      }
      const hidden = images.length - (room - Math.max(left, 0));
      if (hidden > 0) {
        const more = () => {
          room += MOST_SHOWN;
          fill();
        };
        grid.append(make("button", { type: "button", class: "ex-plain", onclick: more }, `Show ${grouped.format(Math.min(hidden, MOST_SHOWN))} more of ${grouped.format(hidden)}`));
      }
      this.rove(grid);
    };
    fill();
    return [head, make("p", { class: "note" }, this.summary(images)), grid];
  }

  summary(images) {
    const tests = images.filter((i) => this.facts.isTest(i));
    if (!tests.length) return "";
    const right = this.facts.data.models
      .filter((model) => model.predicted)
      .map((model) => `${model.name} ${percentOf(tests.filter((i) => this.facts.isRight(model, i)).length, tests.length)}`);
    const which = tests.length < images.length ? `the ${counted(tests.length, "test image")} of these` : "these";
    return right.length ? `Right on ${which}: ${right.join(", ")}.` : "";
  }

  // One stop for the tab key; arrows go from picture to picture.
  rove(grid) {
    const buttons = [...grid.querySelectorAll(".ex-pic")];
    buttons.forEach((one, i) => one.setAttribute("tabindex", i ? "-1" : "0"));
    grid.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const now = buttons.indexOf(document.activeElement);
      if (!step || now < 0 || !buttons[now + step]) return;
      event.preventDefault();
      buttons[now].setAttribute("tabindex", "-1");
      buttons[now + step].setAttribute("tabindex", "0");
      buttons[now + step].focus();
    };
  }
}

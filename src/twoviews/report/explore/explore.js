// The board: what all maps share, the tools above them and the regions below.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class Board {
  constructor(root, data) {
    this.root = root;
    this.facts = new Facts(data);
    this.pictures = new Pictures(this.facts);
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.kind = Object.keys(data.kinds)[0];
    this.colour = "class";
    // A finger has to be able to scroll the page past the maps.
    this.mode = window.matchMedia("(pointer: coarse)").matches ? "move" : "box";
    [this.current, this.kept, this.selectedCount] = [-1, -1, 0];
    this.selected = new Uint8Array(data.count);
    this.order = this.ordered();
    this.maps = [];
    this.live = this.part(".ex-live");
    this.card = make("div", { class: "ex-card", "aria-hidden": "true", hidden: true });
    document.body.append(this.card);
    this.addMaps();
    this.addTools();
    this.paint();
    this.dark.addEventListener("change", () => this.paint());
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.point(this.maps[0], -1, false);
      this.clear();
    });
  }

  part(name) {
    return this.root.querySelector(name);
  }

  // Looks

  get theme() {
    return this.dark.matches ? THEMES.dark : THEMES.light;
  }

  // The order of drawing: test images over the others.
  ordered() {
    const order = shuffled(this.facts.all);
    return [...order.filter((i) => !this.facts.isTest(i)), ...order.filter((i) => this.facts.isTest(i))];
  }

  get way() {
    return COLOURINGS[this.colour];
  }

  paint() {
    this.looks = [...this.way.looks(this), plain(this.theme.none)];
    this.topGroup = this.way.top;
    for (const map of this.maps) (map.groups ? map.restyle() : map.reload());
    this.legend();
  }

  // The look of each image on one map; the last look is for those whose group isn't known.
  groupsOf(model) {
    return this.facts.every.map((i) => this.way.group(this, model, i) ?? this.looks.length - 1);
  }

  legend() {
    this.part(".ex-legend").replaceChildren(...this.way.chips(this));
    for (const map of this.maps) map.legend.replaceChildren(...(this.way.mapChips?.(this, map.model) ?? []));
  }

  // Parts

  addMaps() {
    const place = this.part(".ex-maps");
    for (const model of this.facts.data.models) {
      const rated = this.facts.tests.map((i) => this.facts.isRight(model, i)).filter((one) => one !== null);
      const rate = rated.length ? `${model.classifier}: ${percentOf(rated.filter(Boolean).length, rated.length)} right.` : "";
      const field = make("div", { class: "ex-field", tabindex: "0", role: "application", "aria-label": `Map of ${model.name}: ${counted(this.facts.all.length, "image")}. Arrow keys go from image to image.` });
      const zoom = (text, label, act) => make("button", { type: "button", "aria-label": `${label} ${model.name}`, title: label, onclick: act }, text);
      const large = zoom("⤢", "Enlarge", () => {
        const isLarge = panel.classList.toggle("is-large");
        large.setAttribute("aria-pressed", String(isLarge));
      });
      large.setAttribute("aria-pressed", "false");
      const map = new PointMap(this, field, model);
      const caption = make("figcaption", { class: "note" });
      const legend = make("div", { class: "ex-legend ex-own", role: "group", "aria-label": `Clusters of ${model.name}` });
      const buttons = make("div", { class: "ex-zoom" }, zoom("+", "Zoom in on", () => map.zoomBy(1.6)), zoom("−", "Zoom out of", () => map.zoomBy(1 / 1.6)), large);
      const panel = make("figure", { class: "ex-map" }, make("div", { class: "ex-head" }, make("h3", {}, model.name), buttons), field, legend, caption);
      Object.assign(map, { caption, rate, legend });
      field.addEventListener("keydown", (event) => this.key(event, map));
      field.addEventListener("blur", () => this.point(map, -1, false));
      place.append(panel);
      this.maps.push(map);
    }
    this.captions();
  }

  captions() {
    for (const map of this.maps) {
      const said = map.points ? map.model.quality[this.kind] : "This run has no such map.";
      map.caption.textContent = [map.rate, said].filter(Boolean).join(" ");
    }
  }

  addTools() {
    const { data } = this.facts;
    const choice = (name, legend, options, chosen, act) =>
      make(
        "fieldset",
        { class: "ex-choice" },
        make("legend", {}, legend),
        ...Object.entries(options).map(([value, text]) =>
          make("label", {}, make("input", { type: "radio", name: `explore-${name}`, value, checked: value === chosen, onchange: () => act(value) }), make("span", {}, text)),
        ),
      );
    const colours = Object.fromEntries(Object.entries(COLOURINGS).filter(([, way]) => way.isThere(data)).map(([key, way]) => [key, way.title]));
    const tools = [];
    if (Object.keys(data.kinds).length > 1) {
      tools.push(
        choice("kind", "Map", data.kinds, this.kind, (value) => {
          this.kind = value;
          for (const map of this.maps) map.reload();
          this.captions();
        }),
      );
    }
    if (Object.keys(colours).length > 1) {
      tools.push(
        choice("colour", "Colour", colours, this.colour, (value) => {
          this.colour = value;
          this.paint();
        }),
      );
    }
    if (data.splits) tools.push(choice("splits", "Images", { all: "All", test: "Test only" }, "all", (value) => this.restrict(value === "test")));
    const setMode = (value) => {
      this.mode = value;
      this.root.dataset.mode = value;
    };
    setMode(this.mode);
    tools.push(choice("mode", "Drag to", { box: "Box", lasso: "Lasso", move: "Move" }, this.mode, setMode));
    this.search = make("input", { type: "search", placeholder: "class or file name", autocomplete: "off", spellcheck: "false", oninput: () => this.seek() });
    tools.push(make("label", { class: "ex-ask" }, make("span", {}, "Find"), this.search));
    const offers = this.facts.offers();
    this.offer = make("select", { onchange: () => this.show(offers[Number(this.offer.value)]) }, make("option", { value: "" }, "choose…"), ...offers.map((one, i) => make("option", { value: i }, one.title)));
    tools.push(make("label", { class: "ex-ask" }, make("span", {}, "Show"), this.offer));
    this.part(".ex-tools").replaceChildren(...tools);
  }

  // Only test images, or all again.
  restrict(isTestOnly) {
    const { facts } = this;
    facts.all = isTestOnly ? facts.tests : facts.every;
    this.order = this.ordered();
    for (const map of this.maps) {
      map.place();
      map.node.setAttribute("aria-label", `Map of ${map.model.name}: ${counted(facts.all.length, "image")}. Arrow keys go from image to image.`);
    }
    this.clear();
    this.legend();
    this.say(`${counted(facts.all.length, "image")} shown.`);
  }

  // What the hand and the keys do

  say(text) {
    this.live.textContent = text;
  }

  marks() {
    for (const map of this.maps) map.drawMarks();
  }

  near(model) {
    return this.kept >= 0 ? this.facts.nearest(model, this.kept) : [];
  }

  isAlike(image) {
    return this.facts.data.labels[image] === this.facts.data.labels[this.kept];
  }

  // An image under the hand, or none; `floats`: with its card beside it.
  point(map, image, floats) {
    this.card.hidden = image < 0 || !floats;
    if (image === this.current) return;
    this.current = image;
    this.marks();
    if (this.card.hidden) return;
    this.fillCard(image, map.model);
    const box = map.node.getBoundingClientRect();
    const [x, y] = map.at(image);
    const { offsetWidth: w, offsetHeight: h } = this.card;
    const left = box.left + x + 16 + w > window.innerWidth ? box.left + x - 16 - w : box.left + x + 16;
    const top = Math.min(box.top + y + 12, window.innerHeight - h - 8);
    this.card.style.left = `${Math.max(4, left)}px`;
    this.card.style.top = `${Math.max(4, top)}px`;
  }

  fillCard(image, model) {
    const cluster = this.colour === "cluster" && model.clusters ? model.clusters[image] : UNKNOWN;
    this.card.dataset.image = image;
    this.card.replaceChildren(
      this.pictures.has(image) ? this.pictures.canvas(image) : "",
      make("div", {}, make("p", { class: "ex-file" }, this.facts.data.files[image]), this.pictures.classLine(image), cluster === UNKNOWN ? "" : make("p", {}, `Cluster ${cluster} of ${model.name}`), this.pictures.verdicts(image)),
    );
  }

  click(map, image, adds) {
    if (image < 0) {
      if (!adds) this.clear();
    } else if (adds) {
      this.toggle(image);
    } else {
      this.keep(image);
    }
  }

  toggle(image) {
    const now = this.facts.all.filter((i) => this.selected[i] !== Number(i === image));
    this.choose(now, "picked one by one");
  }

  keep(image) {
    this.kept = image;
    this.part(".ex-kept").replaceChildren(...this.pictures.kept(image, (one) => this.keep(one), () => this.keep(-1)));
    this.marks();
    if (image < 0) return;
    const rows = this.facts.data.models.filter((model) => model.neighbours).map((model) => `${this.facts.alike(model, image)} of ${model.near} in ${model.name}`);
    this.say(`Kept ${this.facts.told(image)}.${rows.length ? ` Nearest images of its class: ${rows.join(", ")}.` : ""}`);
  }

  choose(images, words, adds = false, shown = null) {
    const all = adds ? this.facts.all.filter((i) => this.selected[i]).concat(images) : images;
    this.selected.fill(0);
    for (const i of all) this.selected[i] = 1;
    const list = shown ? images : this.facts.all.filter((i) => this.selected[i]);
    this.selectedCount = list.length;
    const title = `${counted(list.length, "image")} ${adds ? "selected" : words}`;
    const keep = (one) => this.keep(one);
    const clear = () => this.clear();
    const parts = this.pictures.chosen(list, title, keep, clear, Boolean(shown));
    this.part(".ex-chosen").replaceChildren(...parts);
    if (!shown) this.offer.value = "";
    this.say(list.length ? title : `No image ${words}.`);
    for (const map of this.maps) map.draw();
  }

  show(offer) {
    if (!offer) this.clear();
    else this.choose(offer.images(), `: ${offer.title}`, false, offer);
  }

  seek() {
    clearTimeout(this.seeking);
    this.seeking = setTimeout(() => {
      const text = this.search.value.trim();
      this.choose(this.facts.found(text), text ? `with “${text}”` : "");
    }, 150);
  }

  clear() {
    this.search.value = "";
    this.offer.value = "";
    this.keep(-1);
    this.choose([], "");
    this.say("Selection cleared.");
  }

  key(event, map) {
    const step = ARROWS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) {
      const next = map.towards(this.current >= 0 ? this.current : this.kept, ...step);
      if (next >= 0) {
        map.reveal(next);
        this.point(map, next, true);
        this.say(this.facts.told(next));
      } else {
        this.say("No image further that way.");
      }
    } else if (event.key === "Enter" && this.current >= 0) this.keep(this.current);
    else if (event.key === " " && this.current >= 0) this.toggle(this.current);
    else if (event.key === "+" || event.key === "=") map.zoomBy(1.6);
    else if (event.key === "-") map.zoomBy(1 / 1.6);
    else if (event.key === "0") map.whole();
    else return;
    event.preventDefault();
  }
}

const root = document.getElementById("explore");
const held = document.getElementById("explore-data");
if (root && held) {
  const body = root.querySelector(".ex-body");
  body.hidden = false;
  root.querySelector(".ex-off").remove();
  const board = new Board(root, decoded(held.textContent));
  new Cells(board);
  new Gallery(board);
  held.remove();
  // Where an image is drawn, in the window's pixels: for whoever drives the page.
  root.where = (map, image) => {
    const box = board.maps[map].node.getBoundingClientRect();
    const [x, y] = board.maps[map].at(image);
    return [box.left + x, box.top + y];
  };
  board.pictures.ready.then(() => {
    root.dataset.ready = "true";
  });
}

// The gallery: the test images whose nearest images are most and least of their class, and some at random.

const GALLERY_SHOWN = 8;

class Gallery {
  constructor(board) {
    [this.board, this.facts] = [board, board.facts];
    this.models = this.facts.data.models.filter((model) => model.neighbours);
    this.known = this.facts.tests.filter((i) => this.facts.data.labels[i] !== UNKNOWN);
    const place = board.part(".ex-gallery");
    if (!place || !this.models.length || !this.known.length) return;
    this.model = this.models.find((model) => model.key === "pretrained") || this.models[0];
    [this.tab, this.draw] = ["best", 1];
    this.panel = make("div", { role: "tabpanel", id: "ex-gallery-panel" });
    place.append(make("h3", {}, "Best, worst and random nearest images"), make("div", { class: "ex-tools" }, this.tabs(), this.backbones()), this.panel);
    place.hidden = false;
    this.show();
    // The pictures come from a sheet that is decoded meanwhile.
    board.pictures.ready.then(() => this.show());
  }

  tabs() {
    const names = { best: "Best", worst: "Worst", random: "Random" };
    this.buttons = Object.entries(names).map(([tab, name]) =>
      make("button", { type: "button", role: "tab", id: `ex-gallery-${tab}`, "aria-controls": this.panel.id, onclick: () => this.choose(tab) }, name),
    );
    const list = make("div", { class: "ex-tabs", role: "tablist", "aria-label": "Which images" }, ...this.buttons);
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const now = this.buttons.indexOf(document.activeElement);
      if (!step || now < 0) return;
      event.preventDefault();
      const next = this.buttons[(now + step + this.buttons.length) % this.buttons.length];
      next.focus();
      next.click();
    });
    return list;
  }

  backbones() {
    const options = this.models.map((model) => make("option", { value: model.key, selected: model === this.model }, model.name));
    const act = (event) => {
      this.model = this.facts.model(event.target.value);
      this.show();
    };
    return make("label", { class: "ex-ask" }, make("span", {}, "In the features of"), make("select", { onchange: act }, ...options));
  }

  // Again on "Random": others, in the same order every time the page is opened.
  choose(tab) {
    this.draw = tab === "random" && this.tab === "random" ? this.draw + 1 : 1;
    this.tab = tab;
    this.show();
  }

  // The images, and what is said of them.
  picked() {
    const { facts, known, model } = this;
    if (this.tab === "random") {
      const images = shuffled(known, this.draw).slice(0, GALLERY_SHOWN);
      return [images, `${counted(images.length, "test image")} at random. Press “Random” again for others.`];
    }
    const alike = new Map(known.map((i) => [i, facts.alike(model, i)]));
    const sign = this.tab === "best" ? 1 : -1;
    // A stable sort: of equally good ones, those that chance put first.
    const images = shuffled(known).sort((a, b) => sign * (alike.get(b) - alike.get(a))).slice(0, GALLERY_SHOWN);
    const end = alike.get(images[0]);
    const equal = known.filter((i) => alike.get(i) === end).length;
    const mean = known.reduce((sum, i) => sum + alike.get(i), 0);
    const said = `${counted(equal, "test image")} of ${grouped.format(known.length)} (${percentOf(equal, known.length)}) ${equal === 1 ? "has" : "have"} ${end} of ${model.near} nearest images of their own class`;
    return [images, `${said}${equal > images.length ? `; ${images.length} of them, at random` : ""}. On average ${(mean / known.length).toFixed(1)} are.`];
  }

  show() {
    for (const button of this.buttons) {
      const isOn = button.id === `ex-gallery-${this.tab}`;
      button.setAttribute("aria-selected", String(isOn));
      button.tabIndex = isOn ? 0 : -1;
    }
    this.panel.setAttribute("aria-labelledby", `ex-gallery-${this.tab}`);
    const [images, said] = this.picked();
    const { pictures } = this.board;
    const keep = (image) => {
      this.board.keep(image);
      this.board.part(".ex-kept").scrollIntoView({ block: "nearest" });
    };
    const rows = images.map((image) => {
      const row = pictures.row(this.model, image, keep);
      const name = `Nearest to ${this.facts.data.files[image]}, class ${this.facts.trueClass(image)}: ${row.said}`;
      return make(
        "div",
        { class: "ex-asked", role: "group", "aria-label": name },
        pictures.button(image, keep),
        make("div", { class: "ex-strip" }, ...row.pictures),
        make("span", { class: "note" }, `${this.facts.trueClass(image)}: ${row.said}`),
      );
    });
    const grid = make("div", { class: "ex-queries" }, ...rows);
    this.panel.replaceChildren(make("p", { class: "note" }, said), grid);
    pictures.rove(grid);
  }
}

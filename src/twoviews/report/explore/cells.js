// The cells of the confusion matrices as buttons: a press shows the cell's pictures on the board.

const WHO = { supervised: "the baseline", finetuned: "the fine-tuned model" };
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

class Cells {
  constructor(board) {
    this.board = board;
    this.facts = board.facts;
    this.section = document.getElementById("confusion");
    if (!this.section) return;
    const hint = this.section.querySelector(".cm-hint");
    [this.shown, this.seeds, this.tested] = [hint.dataset.shown, hint.dataset.seeds, Number(hint.dataset.tested)];
    this.bins = Object.fromEntries(Object.keys(WHO).map((key) => [key, this.binned(key)]));
    const tables = [...this.section.querySelectorAll("table.cm")].map((table) => this.table(table));
    const list = this.mistakes();
    hint.hidden = !(list || tables.some(Boolean));
    // Before the board clears the pictures, and the focus with them.
    const leave = (event) => event.key === "Escape" && this.last && board.part(".ex-chosen").contains(event.target) && this.back();
    board.root.addEventListener("keydown", leave, true);
  }

  // Images of each cell of a model's matrix, the surest first; null where the page doesn't know what it calls them.
  binned(key) {
    const model = this.facts.model(key);
    if (!model?.predicted) return null;
    const { labels, classes } = this.facts.data;
    const bins = classes.map(() => classes.map(() => []));
    for (const i of this.facts.tests) {
      if (labels[i] !== UNKNOWN && model.predicted[i] !== UNKNOWN) bins[labels[i]][model.predicted[i]].push(i);
    }
    const sure = (i) => this.facts.confidence(model, i) ?? -1;
    for (const bin of bins.flat()) bin.sort((a, b) => sure(b) - sure(a) || a - b);
    this.known = Math.max(this.known ?? 0, bins.flat().reduce((sum, bin) => sum + bin.length, 0));
    return bins;
  }

  // Of a cell, the images that came into it from baseline to fine-tuned, and those that left it.
  moved(truth, called) {
    const { supervised, finetuned } = this.bins;
    if (!supervised || !finetuned) return [[], []];
    const differ = (images, key) => {
      const other = this.facts.model(key).predicted;
      return images.filter((i) => other[i] !== called && other[i] !== UNKNOWN);
    };
    return [differ(finetuned[truth][called], "supervised"), differ(supervised[truth][called], "finetuned")];
  }

  // A table's cells with pictures become buttons; the tab key reaches one of them, arrows the others.
  table(table) {
    const { key } = table.dataset;
    const grid = [...table.tBodies[0].rows].map((row, truth) =>
      [...row.cells].slice(1).map((cell, called) => {
        const parts = key === "change" ? this.moved(truth, called) : [this.bins[key]?.[truth][called] ?? []];
        if (!parts.some((images) => images.length)) return null;
        const [text, label] = [cell.textContent, cell.title];
        const act = () => (key === "change" ? this.showMoved(button, truth, called, parts, text) : this.show(button, key, truth, called, cell.dataset.here, text));
        const button = make("button", { type: "button", tabindex: "-1", title: label, "aria-label": label, onclick: act }, text);
        cell.removeAttribute("title");
        cell.replaceChildren(button);
        return button;
      }),
    );
    const all = grid.flat().filter(Boolean);
    if (!all.length) return false;
    all[0].tabIndex = 0;
    table.addEventListener("focusin", (event) => {
      if (all.includes(event.target)) for (const one of all) one.tabIndex = one === event.target ? 0 : -1;
    });
    table.addEventListener("keydown", (event) => this.arrow(event, grid));
    return true;
  }

  // To the next button that way in the row or column.
  arrow(event, grid) {
    const step = STEPS[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    let row = grid.findIndex((cells) => cells.includes(event.target));
    if (row < 0) return;
    let column = grid[row].indexOf(event.target);
    event.preventDefault();
    do {
      row += step[0];
      column += step[1];
    } while (grid[row] && column in grid[row] && !grid[row][column]);
    grid[row]?.[column]?.focus();
  }

  // Too many classes for tables leave the list of mistakes to press.
  mistakes() {
    let opened = false;
    for (const item of this.section.querySelectorAll(".cm-mistakes li")) {
      const [truth, called] = [Number(item.dataset.true), Number(item.dataset.called)];
      if (!this.bins.finetuned?.[truth]?.[called]?.length) continue;
      const act = () => this.show(button, "finetuned", truth, called, item.dataset.here, item.dataset.images);
      const button = make("button", { type: "button", class: "cm-plain", title: "See their pictures", onclick: act }, item.textContent);
      item.replaceChildren(button);
      opened = true;
    }
    return opened;
  }

  show(button, key, truth, called, here, cell) {
    const images = this.bins[key][truth][called];
    const { classes } = this.facts.data;
    const verb = truth === called ? `${WHO[key]} gets right` : `${WHO[key]} calls ${classes[called]}`;
    const words = `of class ${classes[truth]} that ${verb}`;
    const notes = this.order([images], key);
    if (Number(here) > images.length) notes.push(`${grouped.format(images.length)} of ${grouped.format(here)} shown: ${this.part()}.`);
    this.board.choose(images, words, false, {});
    this.open(button, [...notes, ...this.seed(cell)]);
  }

  showMoved(button, truth, called, parts, cell) {
    const { classes } = this.facts.data;
    const [now, then] = truth === called ? ["gets right", "got right"] : [`calls ${classes[called]}`, `called ${classes[called]}`];
    const titles = [
      `Moved in: ${counted(parts[0].length, "image")} of class ${classes[truth]} that ${WHO.finetuned} ${now} and ${WHO.supervised} did not`,
      `Moved out: ${counted(parts[1].length, "image")} of class ${classes[truth]} that ${WHO.supervised} ${then} and ${WHO.finetuned} does not`,
    ];
    const notes = this.order(parts, "finetuned");
    parts.forEach((images, i) => images.length || notes.unshift(`Moved ${["in", "out"][i]}: none.`));
    if (this.known < this.tested) notes.push(`Not all that moved are shown: ${this.part()}.`);
    const { board } = this;
    board.choose(parts.flat(), "that moved into or out of this cell", false, {});
    const blocks = parts.map((images, i) => board.pictures.chosen(images, titles[i], (one) => board.keep(one), () => board.clear(), true));
    board.part(".ex-chosen").replaceChildren(...blocks.flat());
    this.open(button, [...notes, ...this.seed(cell)], titles);
  }

  order(parts, key) {
    return this.facts.model(key).confidence && parts.some((images) => images.length > 1) ? ["Surest first."] : [];
  }

  seed(cell) {
    return this.shown ? [`Of ${this.shown} alone: the matrix’s ${cell} adds up ${this.seeds} seeds.`] : [];
  }

  part() {
    return `the page has ${grouped.format(this.known)} of ${grouped.format(this.tested)} test images`;
  }

  // The pictures come into view, the hand's and the keys' way back with them.
  open(button, notes, titles = []) {
    const { board } = this;
    const place = board.part(".ex-chosen");
    board.offer.value = "";
    board.search.value = "";
    const head = place.querySelector(".ex-title");
    const back = make("button", { type: "button", class: "ex-plain cm-back", onclick: () => this.back() }, button.closest("table") ? "Back to the matrix" : "Back to the list");
    head.insertBefore(back, head.lastElementChild);
    if (notes.length) head.after(make("p", { class: "note" }, notes.join(" ")));
    this.last?.classList.remove("is-last");
    this.last = button;
    button.classList.add("is-last");
    board.say([...(titles.length ? titles : [head.querySelector("h3").textContent]), ...notes].join(". "));
    back.focus({ preventScroll: true });
    place.scrollIntoView({ block: "start" });
  }

  back() {
    this.last.focus({ preventScroll: true });
    this.last.scrollIntoView({ block: "center", inline: "nearest" });
  }
}

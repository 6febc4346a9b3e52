// What the points' colours mean: for each way to colour its looks, the group of each image, and the legends.

const SURENESS = [0.4, 0.6, 0.8, 0.95]; // edges of the five steps of confidence
const THEMES = {
  light: { ink: "#1f2328", halo: "#ffffff", good: "#1c5b9c", bad: "#a8410a", none: "#b4b9c0", steps: ["#e0b030", "#a69d75", "#75777c", "#41598a", "#0f2f66"] },
  dark: { ink: "#f2f3f4", halo: "#1d2024", good: "#82b7ea", bad: "#f0a868", none: "#5b6169", steps: ["#ffd84d", "#c9b37a", "#9a9aa0", "#6f8bbd", "#4f7fd0"] },
};

const plain = (colour, shape = 0) => ({ colour, shape });

function paletteLooks(board, count) {
  const { palette } = board.facts.data;
  const colours = board.dark.matches ? palette.dark : palette.light;
  return Array.from({ length: count }, (_, k) => plain(colours[k % colours.length], Math.floor(k / colours.length)));
}

function swatch(look, isHollow = false) {
  const node = stamp(look.colour, look.shape, 10, isHollow);
  node.className = "ex-swatch";
  node.setAttribute("aria-hidden", "true");
  return node;
}

function pickChip(board, look, text, title, images, words) {
  return make("button", { type: "button", class: "ex-chip", title, onclick: () => board.choose(images(), words) }, swatch(look), text);
}

const wordChip = (look, text, isHollow) => make("span", { class: "ex-chip" }, swatch(look, isHollow), text);
const noteChip = (text) => make("span", { class: "note" }, text);

// `isThere(data)`: whether it is offered; `looks(board)`; `group(board, model, image)`: a look's number, or null where it
// isn't known; `top`: the group drawn over all others; `names(board, model)`: what is written on a map, as groups and
// their texts; `chips(board)` and `mapChips(board, model)`: the legends above the maps and under each.
const COLOURINGS = {
  class: {
    title: "Class",
    isThere: () => true,
    top: -1,
    looks: (board) => paletteLooks(board, board.facts.data.classes.length),
    group: (board, model, i) => (board.facts.data.labels[i] === UNKNOWN ? null : board.facts.data.labels[i]),
    names: (board) => ({ groups: board.facts.data.labels, texts: board.facts.data.classes }),
    chips: (board) =>
      board.facts.data.classes.map((name, k) =>
        pickChip(board, board.looks[k], name, `Select class ${name}`, () => board.facts.all.filter((i) => board.facts.data.labels[i] === k), `of class ${name}`),
      ),
  },
  cluster: {
    title: "Cluster",
    isThere: (data) => data.models.some((model) => model.clusters),
    top: -1,
    looks: (board) => paletteLooks(board, 1 + Math.max(...board.facts.data.models.flatMap((model) => (model.groups || []).map((one) => one.look)))),
    group: (board, model, i) => (!model.clusters || model.clusters[i] === UNKNOWN ? null : model.groups[model.clusters[i]].look),
    names: (board, model) => model.clusters && { groups: model.clusters, texts: model.groups.map((_, c) => `${c}`) },
    chips: () => [
      noteChip(
        "k-means of each map’s own features, without labels. Numbers are arbitrary: cluster 3 of one map is not cluster 3 of another. Under each map stands every cluster’s commonest class and its share; colours follow the classes where they can.",
      ),
    ],
    mapChips: (board, model) => {
      const { all, data } = board.facts;
      const shown = (model.groups || []).map((one, c) => ({ ...one, c })).filter((one) => one.count);
      const chips = shown.slice(0, 24).map(({ c, best, share, look }) => {
        const text = `${c}: ${data.classes[best]} ${Math.round(100 * share)}%`;
        return pickChip(board, board.looks[look], text, `Select cluster ${c} of ${model.name}`, () => all.filter((i) => model.clusters[i] === c), `in cluster ${c} of ${model.name}`);
      });
      return shown.length > 24 ? [...chips, noteChip(`and ${shown.length - 24} more`)] : chips;
    },
  },
  right: {
    title: "Right or wrong",
    isThere: (data) => data.models.some((model) => model.predicted),
    top: 1,
    looks: (board) => [plain(board.theme.good), plain(board.theme.bad, 3)],
    group: (board, model, i) => ({ true: 0, false: 1, null: null })[board.facts.isRight(model, i)],
    chips: (board) => [wordChip(board.looks[0], "right"), wordChip(board.looks[1], "wrong"), noteChip("by each map’s own classifier"), ...untested(board)],
  },
  confidence: {
    title: "Confidence",
    isThere: (data) => data.models.some((model) => model.confidence),
    top: 0,
    looks: (board) => board.theme.steps.map((colour) => plain(colour)),
    group: (board, model, i) => {
      const sure = board.facts.confidence(model, i);
      return sure === null ? null : SURENESS.filter((edge) => sure >= edge).length;
    },
    chips: (board) => {
      const edges = [0, ...SURENESS, 1].map((edge) => Math.round(100 * edge));
      const steps = board.theme.steps.map((_, k) => wordChip(board.looks[k], `${edges[k]}–${edges[k + 1]}%`));
      return [...steps, noteChip("sure of its answer, each map’s own classifier"), ...untested(board)];
    },
  },
};

function untested(board) {
  return board.facts.all.length > board.facts.tests.length ? [wordChip(plain(board.theme.none), "not tested: training and validation", true)] : [];
}

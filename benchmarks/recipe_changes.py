"""The sample's recipe with one setting changed at a time, on images that no test set holds (development.py).

    python tools/make_sample.py FOLDER --development dev.npz
    python benchmarks/recipe_changes.py dev.npz OUT --threads 1 --seeds 0 1 [--only GROUP]

Groups are the baseline; pretraining, made short (``--epochs``) but for the row that the others start from; fine-tuning
from it, and the SGD probe; and the baseline and fine-tuning with fewer labels. Every run has a folder of its own under
OUT; a finished one is not run again, a stopped one goes on. Prints a JSON line a run, whose figures docs/recipes.md has
seed by seed, then tables: means over the seeds, and each seed's difference from the recipe. ``--table`` prints these
alone.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from development import cells, recipe, take_images, trial

from twoviews.stages.comparison import SGD_PROBE

RECIPE = "the recipe"
WHOLE = "pretrain-whole"  # with the recipe's epochs: what fine-tuning starts from
PER_CLASS = 100  # labels of a class in the whole sample


@dataclass(frozen=True)
class Group:
    """Rows of one table.

    Attributes:
        stage: what is trained.
        rows: settings that differ from the recipe's, by the words of the table.
        figures: of the score, as columns.
        labels: how many of each class are used; none: all.
    """

    stage: str
    rows: dict[str, dict[str, Any]]
    figures: tuple[str, ...] = ("top1",)
    labels: int | None = None


def more(stage: str, labels: int) -> dict[str, Any]:
    """Epochs with fewer labels as a study has them: by the square root of the share that is left."""
    return {"epochs": round(recipe(stage)["epochs"] * math.sqrt(PER_CLASS / labels))}


ZEROS = {"probe_start": False, "base_lr": 0.2}
GROUPS = {
    "baseline": Group(
        "supervised",
        {
            RECIPE: {},
            "no jitter, no grayscale": {"jitter": 0.0, "grayscale": 0.0},
            "no grayscale": {"grayscale": 0.0},
            "jitter of strength 1.0": {"jitter_strength": 1.0},
            "crop scale from 0.2": {"crop_scale": (0.2, 1.0)},
            "`base_lr` 0.6": {"base_lr": 0.6},
            "`base_lr` 2.4": {"base_lr": 2.4},
            "weight decay 5e-5": {"weight_decay": 5e-5},
            "weight decay 5e-3": {"weight_decay": 5e-3},
            "label smoothing 0.1": {"label_smoothing": 0.1},
            "24 px views": {"view_size": 24},
            "60 epochs": {"epochs": 60},
            "150 epochs": {"epochs": 150},
        },
    ),
    "pretraining": Group(
        "pretrain",
        {
            RECIPE: {},
            "`base_lr` 0.45": {"base_lr": 0.45},
            "`base_lr` 1.8": {"base_lr": 1.8},
            "weight decay 1e-4": {"weight_decay": 1e-4},
            "weight decay 1e-3": {"weight_decay": 1e-3},
            "crop scale from 0.08": {"crop_scale": (0.08, 1.0)},
            "blur on half of the views": {"blur": 0.5},
            "head 128 → 128": {"projection_hidden": 128},
            "batch 128": {"batch_size": 128},
            "20 px views": {"first_view_size": None, "view_size": 20},
            "24 px views, 9 epochs": {"first_view_size": None, "view_size": 24, "epochs": 9},
            "32 px views, 5 epochs": {"first_view_size": None, "view_size": 32, "epochs": 5},
        },
        figures=("linear_probe", "knn"),
    ),
    "fine-tuning": Group(
        "finetune",
        {
            RECIPE: {},
            "a head of zeros, `base_lr` 0.2": ZEROS,
            "`base_lr` 0.02": {"base_lr": 0.02},
            "`base_lr` 0.2": {"base_lr": 0.2},
            "backbone × 0.1": {"backbone_lr_scale": 0.1},
            "no jitter, no grayscale": {"jitter": 0.0, "grayscale": 0.0},
            "crop scale from 0.4": {"crop_scale": (0.4, 1.0)},
            "24 px views": {"view_size": 24},
            "30 epochs": {"epochs": 30},
            "100 epochs": {"epochs": 100},
        },
    ),
    "sgd-probe": Group(
        "finetune",
        {
            RECIPE: SGD_PROBE,
            **{f"`base_lr` {rate}": {**SGD_PROBE, "base_lr": rate} for rate in (0.1, 0.3, 3.0, 10.0)},
        },
    ),
    **{
        f"fine-tuning-{labels}": Group(
            "finetune",
            {
                RECIPE: {},
                "more epochs": more("finetune", labels),
                "a head of zeros, `base_lr` 0.2, more epochs": {**ZEROS, **more("finetune", labels)},
                "`base_lr` 0.02": {"base_lr": 0.02},
                "`base_lr` 0.02, more epochs": {"base_lr": 0.02, **more("finetune", labels)},
                "backbone × 0.1": {"backbone_lr_scale": 0.1},
            },
            labels=labels,
        )
        for labels in (10, 30)
    },
    **{
        f"linear-probe-{labels}": Group("features", {RECIPE: {"maps": False}}, labels=labels)
        for labels in (10, 30, PER_CLASS)
    },
    **{
        f"baseline-{labels}": Group(
            "supervised",
            {
                "more epochs, as in a study": more("supervised", labels),
                "the recipe's epochs": {},
                "more epochs, `base_lr` 0.4": {**more("supervised", labels), "base_lr": 0.4},
            },
            labels=labels,
        )
        for labels in (10, 30)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=12, help="of the short pretrainings")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", action="append", choices=list(GROUPS))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    take_images(arguments.images)
    names = arguments.only or list(GROUPS)
    if not arguments.table:
        for seed in arguments.seeds:
            for name in names:
                measure(name, seed, arguments)
    for name in names:
        print("\n".join([f"\n{name}", *table(arguments.out, arguments.seeds, name)]))


def measure(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """All rows of a group with one seed."""
    group, folder = GROUPS[name], arguments.out / f"seed{seed}"
    common: dict[str, Any] = {"seed": seed, "threads": arguments.threads}
    if group.stage == "pretrain":
        common |= {"epochs": arguments.epochs, "warmup_epochs": 1}
    elif group.stage in ("finetune", "features"):
        whole = folder / WHOLE
        tell(WHOLE, RECIPE, seed, trial("pretrain", whole, {"seed": seed, "threads": arguments.threads}))
        common["run"] = str(whole)
    for words, changes in group.rows.items():
        labels = {} if group.labels in (None, PER_CLASS) else {"labels_per_class": group.labels}
        tell(name, words, seed, trial(group.stage, folder / run_name(name, words), {**common, **labels, **changes}))


def tell(group: str, words: str, seed: int, found: dict[str, Any]) -> None:
    """A JSON line of a finished run."""
    print(json.dumps({"group": group, "run": words, "seed": seed, **found}, ensure_ascii=False), flush=True)


def run_name(group: str, words: str) -> str:
    """Folder of a row, below its seed's."""
    plain = "".join(letter if letter.isalnum() or letter in ".-_" else "-" for letter in words.replace("`", ""))
    return f"{group}/{plain}"


def table(out: Path, seeds: list[int], name: str) -> Iterator[str]:
    """Lines of a table: of each figure the mean over seeds, and each seed's difference from the first row."""
    group = GROUPS[name]
    yield "| change | runs | " + " | ".join(f"{figure} % | difference" for figure in group.figures) + " |"
    yield "|---|---|" + "---|---|" * len(group.figures)
    rows = {WHOLE: WHOLE} if group.stage == "pretrain" else {}
    rows |= {words: run_name(name, words) for words in group.rows}
    first = run_name(name, next(iter(group.rows)))
    for words, run in rows.items():
        found, *others = (cells(out, seeds, run, first, figure) for figure in group.figures)
        if found:
            yield f"| {words} | {' | '.join([*found, *(cell for other in others for cell in other[1:])])} |"


if __name__ == "__main__":
    main()

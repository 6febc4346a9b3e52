"""What each option of pretraining is worth on small images, measured on images that no test set holds.

    python tools/make_sample.py FOLDER --development dev.npz
    python benchmarks/options.py dev.npz OUT --threads 1 --seeds 0 1

The sample's recipe, made short and cheap (``--epochs``, ``--stem small-pool``), one option changed a row. Batches are
of 128: at 256 images every learning-rate scaling gives ``base_lr``, and the decoupled loss is for small batches. The
development draw has the sample's own unlabeled and train images; its 5,000 test images are from the rest of CIFAR-10's
training set.

Every run has a folder of its own under OUT; one that is finished is not run again, and one that was stopped goes on.
Prints a JSON line a run, then the tables of docs/recipes.md: accuracy on the development images, and differences seed
by seed, from the base, or of fine-tuning from the same weights without layers of the projection head. ``--only NAME``
(again and again) runs some rows; ``--table`` only prints what is there.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from development import cells, take_images, trial


@dataclass(frozen=True)
class Row:
    """One option.

    Attributes:
        changes: settings of pretraining that differ from the shortened recipe.
        finetunes: values of ``--head-layers`` to fine-tune its weights with.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    finetunes: tuple[int, ...] = ()


ROWS = {
    "base": Row(finetunes=(0, 1)),
    "dcl": Row({"loss": "dcl"}),
    "head-3": Row({"projection_layers": 3}, finetunes=(0, 1)),
    "decay-all": Row({"decay_all": True}),
    "sqrt": Row({"lr_scaling": "sqrt"}),
    "temperature-0.1": Row({"temperature": 0.1}),
    "temperature-0.5": Row({"temperature": 0.5}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--finetune-epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--stem", default="small-pool")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", action="append", choices=list(ROWS))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    take_images(arguments.images)
    if not arguments.table:
        for seed in arguments.seeds:
            for name in arguments.only or ROWS:
                measure(name, seed, arguments)
    print_table(arguments.out, arguments.seeds)


def measure(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Pretrain a row, score its features, fine-tune from it; each result in score.json of its folder."""
    row, folder = ROWS[name], arguments.out / f"seed{seed}" / name
    common: dict[str, Any] = {"stem": arguments.stem, "seed": seed, "threads": arguments.threads}
    pretrained = folder / "pretrain"
    shortened = {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "monitor_epochs": 1}
    tell(name, seed, trial("pretrain", pretrained, {**shortened, **row.changes, **common}))
    for layers in row.finetunes:
        # The backbone's weights by name: --head-layers finds the projection head beside them.
        weights = str(pretrained / "models/backbone.safetensors")
        # A head of zeros, so that the layers kept are all that differs.
        start = {"init": weights, "head_layers": layers, "epochs": arguments.finetune_epochs}
        start |= {"probe_start": False, "base_lr": 0.2}
        found = trial("finetune", folder / f"finetune-{layers}", {**start, **common})
        tell(f"{name}, head layers {layers}", seed, found)


def tell(name: str, seed: int, found: dict[str, Any]) -> None:
    """A JSON line of a finished run."""
    print(json.dumps({"run": name, "seed": seed, **found}), flush=True)


def print_table(out: Path, seeds: list[int]) -> None:
    """Means over the seeds that are there, and each seed's difference from its own base."""
    print("\n| option | runs | linear probe % | difference | kNN % | difference |\n|---|---|---|---|---|---|")
    for name in ROWS:
        probe, knn = (cells(out, seeds, f"{name}/pretrain", "base/pretrain", key) for key in ("linear_probe", "knn"))
        if probe:
            print(f"| {name} | {' | '.join([*probe, *knn[1:]])} |")
    print("\n| fine-tuned from | head layers | runs | top-1 % | difference |\n|---|---|---|---|---|")
    for name, row in ROWS.items():
        for layers in row.finetunes:
            top1 = cells(out, seeds, f"{name}/finetune-{layers}", f"{name}/finetune-0", "top1")
            if top1:
                print(f"| {name} | {layers} | {' | '.join(top1)} |")


if __name__ == "__main__":
    main()

"""Does the learning curve's word come true? Its forecast for twice the epochs, beside a run of twice the epochs.

    python tools/make_sample.py FOLDER --development dev.npz
    python benchmarks/forecasts.py dev.npz OUT --threads 1 --seeds 0 1 2

The sample's recipe is pretrained for each of ``--epochs``, each twice the one before, with a twenty-fifth of them for
warm-up (at least one) and a look of the monitor every twelfth part. Of a run the forecast is what a report says: points
of kNN accuracy that twice the epochs would bring, with its interval, from the sample's labelled images. What they
brought is the kNN accuracy of the longer run beyond the shorter one's, on the 5,000 development images
(development.py), of which no forecast knew.

Every run has a folder of its own under OUT; a finished one is not run again, a stopped one goes on. Prints a JSON line
for each pair of runs, then a table with each seed's figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from development import take_images, trial

from twoviews.evaluation.learning_curve import ENOUGH_POINTS, learning_curve
from twoviews.files import read_json, read_json_lines

LOOKS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, nargs="+", default=[12, 24, 48, 96])
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if any(longer != 2 * shorter for shorter, longer in pairwise(arguments.epochs)):
        raise SystemExit("--epochs: each has to be twice the one before.")
    if min(arguments.epochs) < ENOUGH_POINTS:
        raise SystemExit(f"--epochs: below {ENOUGH_POINTS} a run makes no forecast.")
    take_images(arguments.images)
    found = []
    for seed in arguments.seeds:
        runs = [pretrained(arguments.out / f"seed{seed}", epochs, seed, arguments) for epochs in arguments.epochs]
        for shorter, longer in pairwise(runs):
            found.append(compared(shorter, longer) | {"seed": seed})
            print(json.dumps(found[-1]), flush=True)
    print("\n".join(table(found)))


def pretrained(folder: Path, epochs: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A run's accuracy on development images, in percent, and what it says of twice its epochs."""
    changes = {
        "seed": seed,
        "threads": arguments.threads,
        "epochs": epochs,
        "warmup_epochs": max(1, epochs // 25),
        "monitor_epochs": max(1, epochs // LOOKS),
    }
    run = folder / f"epochs{epochs}"
    score = trial("pretrain", run, changes)
    images = read_json(run / "results.json")["learning_curve"]["images"]
    curve = learning_curve(read_json_lines(run / "metrics.jsonl"), images, seed)
    return {"epochs": epochs, "knn": 100 * score["knn"], **curve}


def compared(shorter: dict[str, Any], longer: dict[str, Any]) -> dict[str, Any]:
    """The shorter run's forecast, and what came of it, in points."""
    low, high = shorter["ci95"]
    brought = longer["knn"] - shorter["knn"]
    return {
        "epochs": shorter["epochs"],
        "forecast": round(shorter["expected_gain"], 2),
        "laws": [round(law["expected_gain"], 2) for law in shorter["laws"]],
        "interval": [round(low, 2), round(high, 2)],
        "brought": round(brought, 2),
        "held": bool(low <= brought <= high),
    }


def table(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Lines of a table, by the shorter run's epochs."""
    yield "| epochs | forecast for twice as many | by each law | its interval | what they brought |"
    yield "|---|---|---|---|---|"
    rows = list(found)
    for epochs in sorted({row["epochs"] for row in rows}):
        these = [row for row in rows if row["epochs"] == epochs]
        forecast, brought = (", ".join(f"{row[key]:+.1f}" for row in these) for key in ("forecast", "brought"))
        laws, intervals = (
            ", ".join(f"{low:.1f} to {high:.1f}" for low, high in (row[key] for row in these))
            for key in ("laws", "interval")
        )
        yield f"| {epochs} | {forecast} | {laws} | {intervals} | {brought} |".replace("-", "−")


if __name__ == "__main__":
    main()

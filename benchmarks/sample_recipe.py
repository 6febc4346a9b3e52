"""Try settings of the sample's recipe on images that are not the sample's test set (development.py).

    python tools/make_sample.py FOLDER --development dev.npz
    python benchmarks/sample_recipe.py dev.npz OUT STAGE [key=value ...]

STAGE is supervised, pretrain, or what takes ``run=OUT/pretrain-...``: finetune, and features, whose linear probe is
scored. The recipe's settings hold but for the keys given; with fewer labels (``labels_per_class=10``) name the epochs
too, which a study would make more. Prints one JSON line: settings, accuracy on the development images, seconds,
machine. The tables of docs/recipes.md are recipe_changes.py's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from development import take_images, trial


def main() -> None:
    dev, out, stage = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in sys.argv[4:])}
    name = "-".join([stage, *(f"{k}{Path(str(v)).name}" for k, v in changes.items())]).replace(" ", "")
    take_images(dev)
    print(json.dumps({"stage": stage, **changes, **trial(stage, out / name, changes)}), flush=True)


if __name__ == "__main__":
    main()

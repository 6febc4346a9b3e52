"""The four scripts of the project, without arguments but for the epochs, on a small set in STL-10's own layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from real_commands import environment

ROOT = Path(__file__).parents[2]
CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def write_stl10(root: Path) -> None:
    """Random pictures in the binary layout: 48 unlabeled, 40 train, 20 test."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("unlabeled", 48), ("train", 40), ("test", 20)):
        rng.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{split}_X.bin")
        if split != "unlabeled":
            np.resize(np.arange(1, 11, dtype=np.uint8), count).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(CLASSES) + "\n")


@pytest.mark.slow
def test_all_four_scripts_run_resnet50_on_stl10(tmp_path):
    write_stl10(tmp_path / "data")
    one = ["--epochs", "1", "--batch-size", "16"]
    for script, flags in (
        ("simclr_train.py", one),
        ("supervised_train.py", one),
        ("features_quality_check.py", []),
        ("fine_tuning.py", one),
    ):
        done = subprocess.run(
            [sys.executable, ROOT / script, *flags],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, (script, done.stderr)
    output = tmp_path / "output"
    assert (output / "pretrain-stl10/models/backbone.safetensors").exists()
    for plot in ("pca_plot", "tsne_plot", "kmeans_plot"):
        assert (output / "features-stl10/logs" / f"{plot}.png").exists()
    for run in ("supervised-stl10", "finetune-stl10"):
        assert (output / run / "logs/curves.png").exists()
        assert 0 <= json.loads((output / run / "results.json").read_text())["val_top1"] <= 1
    settings = (output / "pretrain-stl10/settings.yaml").read_text()
    assert "backbone: resnet50" in settings

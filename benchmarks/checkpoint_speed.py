"""Seconds of a checkpoint, beside a raw write of as many bytes to the same disk.

    python benchmarks/checkpoint_speed.py [--backbone resnet50] [--optimizer sgd] [--rounds 5] [--folder DIR]

A checkpoint turns weights, optimizer and best weights into safetensors, sums them up (SHA-256), writes and flushes
each file, renames the folder, and reads it back from the disk before an older one is deleted. The raw write is one file
of the same bytes, written and flushed. Both take turns; one JSON line a round, the last line has the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from machine import machine

from twoviews.model.projection_head import SimCLR
from twoviews.model.resnet50 import create_backbone, feature_width
from twoviews.settings import PretrainSettings
from twoviews.trainers.checkpoint import State, load_latest, save_checkpoint
from twoviews.trainers.optimizer import build_optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--optimizer", choices=("sgd", "adamw", "lars"), default="sgd")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure; default: here")
    arguments = parser.parse_args()
    backbone = create_backbone(arguments.backbone, "original")
    module = SimCLR(backbone, feature_width(backbone), 128).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(module, PretrainSettings(optimizer=arguments.optimizer))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes its state
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for step in range(1, arguments.rounds + 1):
            started = time.perf_counter()
            path = save_checkpoint(folder / "checkpoints", module, optimizer, State(step))
            saving = time.perf_counter() - started
            content = os.urandom(sum(p.stat().st_size for p in path.iterdir()))
            started = time.perf_counter()
            with open(folder / "raw", "wb") as stream:
                stream.write(content)
                os.fsync(stream.fileno())
            raw = time.perf_counter() - started
            started = time.perf_counter()
            load_latest(folder / "checkpoints", module, optimizer)
            loading = time.perf_counter() - started
            rows.append({"save": saving, "raw_write": raw, "load": loading})
            print(json.dumps({key: round(value, 3) for key, value in rows[-1].items()}), flush=True)
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    last = {
        "backbone": arguments.backbone,
        "optimizer": arguments.optimizer,
        "rounds": arguments.rounds,
        "megabytes": round(len(content) / 1e6, 1),
        **{f"{key}_seconds": round(value, 3) for key, value in medians.items()},
        "beyond_raw_write_seconds": round(medians["save"] - medians["raw_write"], 3),
        **machine(),
    }
    print(json.dumps(last))


if __name__ == "__main__":
    main()

"""BatchNorm, shortcut and ReLU as one operation (numba's kernels) against PyTorch's operations, on a CPU.

    python benchmarks/batchnorm_relu.py layers [--backbone resnet18_w16] [--view-size 24] [--precision bf16]
    python benchmarks/batchnorm_relu.py step   [--backbone resnet18_w16] [--view-size 24] [--precision bf16]

``layers``: one JSON line for each distinct BatchNorm of the backbone, by shape and by what follows it: milliseconds of
forward and backward, each way, and the gigabytes a second that the kernels' passes come to. ``step``: the whole
pretraining step, data and views included. Both ways in turn; medians of ``--repeats``, and how many times as fast the
kernels are, round by round.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from machine import machine
from our_step import prepare, task_and_optimizer, twoviews_loop
from step_trials import Work, in_turn
from torch import Tensor, nn

from twoviews.model import batchnorm_relu as ours
from twoviews.model import fused_resnet
from twoviews.model.batchnorm_start import kernels
from twoviews.processor import multiplies_in_bf16
from twoviews.settings import PretrainCommand
from twoviews.stages.backbones import new_backbone
from twoviews.trainers import engine

# Passes over a map, forward and backward: moments, read and write, two maps read, two read and one written; with an
# addend it is read, and backward the output is read and the addend's gradient written.
PASSES, WITH_ADDEND = 1 + 2 + 2 + 3, 3


def layers(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    settings = PretrainCommand(data="sample", backbone=arguments.backbone)
    backbone = fused_resnet.fuse_resnets(new_backbone(settings, arguments.image_size, seed=0))
    seen = layers_of(backbone, (2 * arguments.batch_size, 3, arguments.view_size, arguments.view_size))
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    for (shape, with_relu, with_addend), count in seen.items():
        ways = [one_layer(shape, with_relu, with_addend, dtype, by_kernels=by) for by in (True, False)]
        (clear, kernels), (clear_too, torch_s) = ways
        found = by_name(in_turn(kernels, torch_s, arguments.repeats, (clear, clear_too)))
        size = torch.Size(shape).numel() * dtype.itemsize * (PASSES + WITH_ADDEND * with_addend)
        about = {"shape": list(shape), "relu": with_relu, "addend": with_addend, "layers": count}
        yield about | found | {"gb_per_second": round(size / found["kernels_ms"] / 1e6, 1)}


def layers_of(backbone: nn.Module, images: tuple[int, ...]) -> Counter[tuple[tuple[int, ...], bool, bool]]:
    """How many BatchNorms a fused backbone has of each kind: shape, whether ReLU follows, whether with an addend."""
    seen: Counter[tuple[tuple[int, ...], bool, bool]] = Counter()
    usual = ours._batchnorm_relu

    def noted(norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None, twice: bool) -> Any:
        seen[tuple(x.shape), relu is not None, addend is not None] += 1
        return usual(norm, x, relu, addend, twice)

    with torch.no_grad(), patch.object(ours, "_batchnorm_relu", noted):
        backbone(torch.zeros(images))
    return seen


def one_layer(
    shape: tuple[int, ...], with_relu: bool, with_addend: bool, dtype: torch.dtype, *, by_kernels: bool
) -> tuple[Work, Work]:
    def maps() -> Tensor:
        return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)

    norm, relu = nn.BatchNorm2d(shape[1]), nn.ReLU(inplace=True) if with_relu else None
    x, upstream, addend = maps().requires_grad_(), maps(), maps().requires_grad_() if with_addend else None

    def clear() -> None:
        x.grad = norm.weight.grad = norm.bias.grad = None
        if addend is not None:
            addend.grad = None

    def work() -> None:
        with_kernels(by_kernels, lambda: ours.batchnorm_relu(norm, x, relu, addend).backward(upstream))

    return clear, work


def with_kernels(taken: bool, work: Callable[[], object]) -> None:
    with patch.object(ours, "_takes_kernels", ours._takes_kernels if taken else lambda *_: False):
        work()


def step(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    names = ("backbone", "image_size", "view_size", "batch_size", "threads", "precision")
    same = {name: getattr(arguments, name) for name in names}
    streams = []
    for fuse in (fused_resnet.fuse_resnets, lambda module: module):
        with patch.object(engine, "fuse_resnets", fuse):
            settings, shared = prepare(None, 4 * arguments.batch_size, device="cpu", **same)
            streams.append(twoviews_loop(settings, shared, *task_and_optimizer(settings, shared))())

    kernels, torch_s = ((lambda stream=stream: next(stream)) for stream in streams)
    # Before each a step untimed: what the other way left in the caches.
    yield same | by_name(in_turn(kernels, torch_s, arguments.repeats, (kernels, torch_s)))


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    """What ``in_turn`` found, by the names of the two ways."""
    return {{"trial_ms": "kernels_ms", "usual_ms": "torch_ms"}.get(key, key): value for key, value in found.items()}


def main() -> None:
    ways = {"layers": layers, "step": step}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=ways)
    parser.add_argument("--backbone", default="resnet18_w16")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--view-size", type=int, help="default: the image size")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument(
        "--precision", choices=("bf16", "float32"), default="bf16" if multiplies_in_bf16() else "float32"
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.view_size = arguments.view_size or arguments.image_size
    torch.set_num_threads(arguments.threads)
    if kernels() is None:
        parser.error("the kernels can't be had here: they need Linux, numba and PyTorch's wheel")
    for row in ways[arguments.what](arguments):
        print(json.dumps({"what": arguments.what, **row}), flush=True)
    about = {name: getattr(arguments, name) for name in ("backbone", "precision", "repeats", "threads")}
    print(json.dumps(about | machine()))


if __name__ == "__main__":
    main()

"""Each convolution of a backbone on the CPU: milliseconds forward and backward, oneDNN's way and ours.

    python benchmarks/convolutions.py [--backbone resnet50] [--image-size 96] [--view-size 96] [--batch-size 32]

One JSON line for each distinct layer: ``plain`` is ``nn.Conv2d``, ``ours`` the convolution of
``twoviews.model.convolution`` (the same where it leaves the layer to oneDNN), both channels last in ``--precision``,
timed in turn; the median of ``--repeats``. The last line adds the layers up, beside the floor: three matrix products'
worth of operations (two for the first layer, whose input needs no gradient) at the rate of a 2048×2048 product. That is
the floor of a direct convolution: where ``ours`` takes fewer multiplications, it can lie below.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time

import torch
from machine import machine
from torch import Tensor, nn

from twoviews.model.convolution import speed_up_convolutions
from twoviews.model.resnet50 import create_backbone, resolve_stem
from twoviews.settings import RunSettings
from twoviews.stages.measure import matrix_product_rate
from twoviews.trainers.engine import Engine

Layer = tuple[tuple[int, ...], int, int, int]


def layers_of(backbone: nn.Module, x: Tensor) -> dict[Layer, tuple[nn.Conv2d, int]]:
    """Distinct convolutions by input shape, output channels, kernel and stride; one of each, and how many there are."""
    found: dict[Layer, tuple[nn.Conv2d, int]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        key = (tuple(inputs[0].shape), module.out_channels, module.kernel_size[0], module.stride[0])
        found[key] = (module, found.get(key, (module, 0))[1] + 1)

    hooks = [m.register_forward_hook(note) for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        backbone(x)
    for hook in hooks:
        hook.remove()
    return found


def milliseconds(convolutions: list[nn.Module], x: Tensor, repeats: int, *, bf16: bool) -> list[float]:
    """Median time of a forward and backward pass of each, taken in turn."""
    times: list[list[float]] = [[] for _ in convolutions]
    for repeat in range(repeats + 1):
        for convolution, spent in zip(convolutions, times, strict=True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                started = time.perf_counter()
                out = convolution(x)
                forward = time.perf_counter() - started
            upstream = torch.ones_like(out)
            started = time.perf_counter()
            out.backward(upstream)
            if repeat:
                spent.append(1e3 * (forward + time.perf_counter() - started))
            x.grad = None
    return [statistics.median(spent) for spent in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--image-size", type=int, default=96, help="by which the stem is chosen")
    parser.add_argument("--view-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32, help="images; each has two views")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", choices=["auto", "bf16", "float32"], default="auto")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    engine = Engine(RunSettings(device="cpu", precision=arguments.precision, threads=arguments.threads))
    bf16 = engine.precision == "bf16"
    rate, _ = matrix_product_rate(engine)
    backbone = create_backbone(arguments.backbone, resolve_stem("auto", arguments.image_size, arguments.backbone))
    x = torch.randn(2 * arguments.batch_size, 3, arguments.view_size, arguments.view_size)
    plain_total = ours_total = flop_total = 0.0
    for (shape, width, kernel, stride), (layer, count) in layers_of(backbone, x).items():
        plain = copy.deepcopy(layer).to(memory_format=torch.channels_last)
        ours = speed_up_convolutions(copy.deepcopy(plain))
        first = shape[1] == 3
        given = torch.randn(shape, dtype=torch.bfloat16 if bf16 else torch.float32).contiguous(
            memory_format=torch.channels_last
        )
        given.requires_grad_(not first)
        a, b = milliseconds([plain, ours], given, arguments.repeats, bf16=bf16)
        out = plain(given.float())
        flop = (2 if first else 3) * 2 * out.numel() * shape[1] * kernel**2
        row = {"input": shape, "out_channels": width, "kernel": kernel, "stride": stride, "layers": count}
        row |= {"plain_ms": round(a, 2), "ours_ms": round(b, 2), "floor_ms": round(1e3 * flop / rate, 2)}
        print(json.dumps(row), flush=True)
        plain_total, ours_total, flop_total = plain_total + count * a, ours_total + count * b, flop_total + count * flop
    print(
        json.dumps(
            {
                **vars(arguments),
                "precision": engine.precision,
                "plain_ms": round(plain_total, 1),
                "ours_ms": round(ours_total, 1),
                "floor_ms": round(1e3 * flop_total / rate, 1),
                "matrix_product_gflop_per_second": round(rate / 1e9),
                "threads": torch.get_num_threads(),
                **machine(),
            }
        )
    )


if __name__ == "__main__":
    main()

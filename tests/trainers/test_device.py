"""The compiled network for every size of views, and the gradient scaler's state from training to training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from twoviews.settings import RunSettings
from twoviews.trainers.device import compile_for_sizes
from twoviews.trainers.engine import Engine


def test_every_size_of_views_is_compiled(monkeypatch: Any) -> None:
    """Views that grow from 48 to 96 pixels by 4 have 13 sizes, and torch's own limit is 8."""
    compiled = 0

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        nonlocal compiled
        compiled += 1
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda m, **how: COMPILE(m, backend=backend, **how))
    network = compile_for_sizes(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)))
    sizes = range(48, 100, 4)
    for size in [*sizes, *sizes]:
        network(torch.randn(2, 3, size, size))
    assert compiled == len(sizes)


COMPILE = torch.compile


def test_a_training_begins_with_the_first_scale_whatever_was_trained_before() -> None:
    engine = Engine(RunSettings(device="cpu", precision="float32"))
    scaler = torch.amp.GradScaler("cpu", growth_interval=1)  # type: ignore[attr-defined]
    engine._fabric = SimpleNamespace(_precision=SimpleNamespace(scaler=scaler))  # type: ignore[assignment]
    engine._first_state = first = engine.state()
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    grown = engine.state()
    assert grown["scale"] == 8 * first["scale"]
    engine.load_state({})
    assert engine.state() == first
    engine.load_state(grown)
    assert engine.state() == grown

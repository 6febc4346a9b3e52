"""The projection head g(h) of SimCLR (Chen et al. 2020, sections 2.1 and 4.2), and backbone and head as one net."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from twoviews.model.resnet50 import feature_width


def projection_head(width_in: int, hidden: int, width_out: int, layers: int = 2) -> nn.Sequential:
    """Linear, BatchNorm, ReLU, ..., Linear, BatchNorm: N×width_in → N×width_out.

    Args:
        width_in: width of the features h.
        hidden: width of the hidden layers.
        width_out: width of the projections z (128 in the paper).
        layers: number of linear layers, 2 (SimCLR) or 3 (SimCLR v2, Chen et al. 2020b, section 2).
    """
    if layers not in (2, 3):
        raise ValueError(f"a projection head has 2 or 3 layers, not {layers}")
    return stacked_layers(width_in, [hidden] * (layers - 1) + [width_out], last_relu=False)


def stacked_layers(width_in: int, widths: Sequence[int], *, last_relu: bool) -> nn.Sequential:
    """Linear, BatchNorm, ReLU for each of ``widths``, the last one's ReLU only where asked for."""
    modules: list[nn.Module] = []
    for a, b in itertools.pairwise([width_in, *widths]):
        modules += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules if last_relu else modules[:-1])


def layout(layers: nn.Sequential) -> dict[str, Any]:
    """``widths`` and ``last_relu`` with which ``stacked_layers`` makes layers like these."""
    widths = [module.out_features for module in layers if isinstance(module, nn.Linear)]
    return {"widths": widths, "last_relu": isinstance(layers[-1], nn.ReLU)}


def first_layers(head: nn.Sequential, layers: int) -> nn.Sequential:
    """The first ``layers`` linear layers of a projection head, each with what follows it.

    Raises:
        ValueError: the head has fewer, or none is asked for.
    """
    starts = [at for at, module in enumerate(head) if isinstance(module, nn.Linear)]
    if not 1 <= layers <= len(starts):
        raise ValueError(f"the projection head has {len(starts)} layers, so 1 to {len(starts)} can be kept")
    return head[: [*starts, len(head)][layers]]


class SimCLR(nn.Module):
    """Backbone and projection head: N×3×H×W views → N×width projections z."""

    def __init__(self, backbone: nn.Module, hidden: int, width_out: int, layers: int = 2) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = projection_head(feature_width(backbone), hidden, width_out, layers)

    def forward(self, views: Tensor) -> Tensor:
        projections: Tensor = self.projection_head(self.backbone(views))
        return projections

"""The projection head g(h) of SimCLR (Chen et al. 2020, sections 2.1 and 4.2), and backbone and head as one net."""

from __future__ import annotations

import itertools

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
    widths = [width_in, *[hidden] * (layers - 1), width_out]
    modules: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        last = i == layers - 1
        modules += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b)]
        if not last:
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)


class SimCLR(nn.Module):
    """Backbone and projection head: N×3×H×W views → N×width projections z."""

    def __init__(self, backbone: nn.Module, hidden: int, width_out: int, layers: int = 2) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = projection_head(feature_width(backbone), hidden, width_out, layers)

    def forward(self, views: Tensor) -> Tensor:
        projections: Tensor = self.projection_head(self.backbone(views))
        return projections

"""InfoNCE with in-batch negatives: the NT-Xent loss of SimCLR (Chen et al. 2020, section 2.1, equation 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    projections: Tensor,
    temperature: float = 0.5,
    *,
    candidates: Tensor | None = None,
    first_row: int = 0,
) -> tuple[Tensor, Tensor]:
    """Loss of 2N projections whose row i and row i + N (modulo 2N) are two views of one image.

    For each anchor the loss is -log(exp(sim(anchor, positive) / t) / sum over every other candidate of
    exp(sim(anchor, candidate) / t)) with cosine similarity; the mean over the anchors is returned. It is computed in
    float32 (float64 stays float64), whatever the precision of the input.

    Over several processes each calls with its own 2n projections as anchors and the gathered projections of all as
    ``candidates``: process r's rows are then candidates first_row, ..., first_row + 2n - 1, in the same order.

    Args:
        projections: 2n×D, first views then second views; not normalised.
        temperature: t > 0.
        candidates: M×D with the projections among them; the projections themselves when None.
        first_row: where the projections begin in the candidates.

    Returns:
        The loss, and contrastive top-1: the share of anchors whose most similar candidate is their positive. Both
        are scalars; top-1 carries no gradient.

    Raises:
        ValueError: fewer than 2 images, an odd number of rows, or a temperature that is not positive.
    """
    anchors = len(projections)
    if anchors % 2:
        raise ValueError(f"projections must hold two views of each image, got {anchors} rows")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    precision = torch.float64 if projections.dtype == torch.float64 else torch.float32
    z = F.normalize(projections.to(precision), dim=1)
    c = z if candidates is None else F.normalize(candidates.to(precision), dim=1)
    if len(c) < 4:
        raise ValueError("NT-Xent needs at least 2 images: with one there are no negatives")

    row = torch.arange(anchors, device=z.device)
    with torch.autocast(z.device.type, enabled=False):
        similarity = z @ c.T / temperature
    # An anchor is not its own candidate. -inf drops out of the sum and takes no gradient.
    similarity = similarity.scatter(1, (row + first_row)[:, None], float("-inf"))
    positive = (row + anchors // 2) % anchors + first_row
    loss = F.cross_entropy(similarity, positive)
    top1 = (similarity.detach().argmax(dim=1) == positive).to(precision).mean()
    return loss, top1

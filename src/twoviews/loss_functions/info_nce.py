"""InfoNCE with in-batch negatives: the NT-Xent loss of SimCLR (Chen et al. 2020, section 2.1, equation 1).

And the same decoupled (DCL: Yeh et al. 2022, "Decoupled Contrastive Learning", section 3).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from twoviews.loss_functions.tiles import info_nce_in_tiles

# Similarities (anchors × candidates) from which on tiles are used. On a CPU they are then as fast as the whole matrix
# with two threads and faster with one; at twice the rows they are faster with both.
TILES_FROM = 512 * 512
# On a GPU a step's time goes into starting kernels until the matrix is this large (H100: as fast at 4,096 rows, a third
# faster in tiles at 16,384, where the matrix takes 3.6 GiB).
GPU_TILES_FROM = 8192 * 8192


def info_nce(
    projections: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    candidates: Tensor | None = None,
    first_row: int = 0,
    decoupled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Loss of 2N projections whose row i and row i + N (modulo 2N) are two views of one image.

    For each anchor the loss is -log(exp(sim(anchor, positive) / t) / sum over every other candidate of
    exp(sim(anchor, candidate) / t)) with cosine similarity; the mean over the anchors is returned. It is computed in
    float32 (float64 stays float64), whatever the precision of the input. From 2N = 512 on it is computed in tiles:
    the same loss and gradient, with memory that grows with N and not with its square, differentiable once.

    Over several processes each calls with its own 2n projections as anchors and the gathered projections of all as
    ``candidates``: process r's rows are then candidates first_row, ..., first_row + 2n - 1, in the same order. Where
    the gathering sums a row's gradients over the processes, and parameters' gradients are averaged (DDP), they are
    those of one process with the whole batch.

    Decoupled, the positive is not in the sum. In NT-Xent an anchor's gradient carries its probability of a miss as a
    factor, so that easy positives, which small batches have more of, hardly teach; without the positive in the sum
    that factor is 1. The loss can then be negative.

    Args:
        projections: 2n×D, first views then second views; not normalised.
        temperature: t > 0; a tensor () where it is learned (on a GPU the host then waits for its value).
        candidates: M×D with the projections among them; the projections themselves when None.
        first_row: where the projections begin in the candidates.
        decoupled: leave the positive out of the sum (DCL).

    Returns:
        The loss, and contrastive top-1: the share of anchors that are more similar to their positive than to every
        other candidate. Both are scalars; top-1 carries no gradient.

    Raises:
        ValueError: fewer than 2 images, an odd number of rows, other than two dimensions, candidates of another
            width, projections that reach outside the candidates, or a temperature that is not one positive number.
        RuntimeError: computed in tiles and differentiated twice.
    """
    for rows in (projections,) if candidates is None else (projections, candidates):
        if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.shape[1:] != projections.shape[1:]:
            got = f"{tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(f"projections, and candidates of the same width, must be tensors rows×D, got {got}")
    if isinstance(temperature, Tensor) and temperature.numel() != 1:
        raise ValueError(
            f"temperature must be one number, got a tensor {tuple(temperature.shape)}; "
            "two views go in as one tensor: info_nce(torch.cat([first, second]))"
        )
    anchors = len(projections)
    if anchors % 2:
        raise ValueError(f"projections must hold two views of each image, got {anchors} rows")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    count = anchors if candidates is None else len(candidates)
    if count < 4:
        raise ValueError("NT-Xent needs at least 2 images: with one there are no negatives")
    if not 0 <= first_row <= count - anchors:
        raise ValueError(
            f"rows {first_row} to {first_row + anchors - 1} of the projections are not in {count} candidates"
        )
    precision = torch.float64 if projections.dtype == torch.float64 else torch.float32
    z = F.normalize(projections.to(precision), dim=1)
    c = None if candidates is None else F.normalize(candidates.to(precision), dim=1)
    with torch.autocast(z.device.type, enabled=False):
        enough = TILES_FROM if z.device.type == "cpu" else GPU_TILES_FROM
        form = info_nce_in_tiles if anchors * count >= enough else info_nce_dense
        return form(z, c, temperature, first_row, decoupled=decoupled)


def info_nce_dense(
    anchors: Tensor,
    candidates: Tensor | None,
    temperature: float | Tensor,
    first_row: int = 0,
    *,
    decoupled: bool = False,
) -> tuple[Tensor, Tensor]:
    """The definition, with the whole matrix of similarities, for vectors of length 1."""
    row = torch.arange(len(anchors), device=anchors.device)
    similarity = anchors @ (anchors if candidates is None else candidates).T / temperature
    # An anchor is not its own candidate. -inf drops out of the sum and takes no gradient.
    similarity = similarity.scatter(1, (row + first_row)[:, None], -math.inf)
    positive = (row + len(anchors) // 2) % len(anchors) + first_row
    negatives = similarity.scatter(1, positive[:, None], -math.inf)
    if decoupled:
        loss = (negatives.logsumexp(dim=1) - similarity[row, positive]).mean()
    else:
        loss = F.cross_entropy(similarity, positive)
    top1 = similarity.detach()[row, positive] > negatives.detach().amax(dim=1)
    return loss, top1.to(loss.dtype).mean()

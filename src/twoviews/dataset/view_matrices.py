"""Views as products of dense matrices, the form for GPUs.

There a multiplication costs next to nothing, and what counts is the bytes moved and the number of kernels: the sums of
few rows of ``view_taps`` are many small kernels. A view is two batched products, of the images with a matrix for the
columns and of the result with one for the rows, each of them crop, resize, flip and blur together. No shape depends on
the data and the host never waits, so that a CUDA graph can record it.

Two facts make this the same function. Colours and blur commute, both being linear and the blur's kernel summing to 1.
And each row of a view's matrices sums to 1, so that what is to be added to all its pixels may be added before.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from twoviews.dataset.view_parameters import ViewColours, ViewParameters, blur_kernels, mirrored, resize_weights


def by_matrices(images: Tensor, p: ViewParameters, colours: ViewColours, view_size: int, *, blur: bool) -> Tensor:
    """Views of images (n×3×H×W), number j·n + i of image i: N×view_size×view_size×3 float32, clipped."""
    device, (n, channels, height, width), count = images.device, images.shape, len(p.top)
    axes = _resize_matrices(p, max(height, width), view_size)
    means = axes.mean(dim=1)[..., None]  # before the blur: contrast is about the mean that it has not changed
    if blur:
        axes = torch.bmm(_blur_matrices(p.sigma, view_size), axes.flatten(2)).view(axes.shape)
    columns, rows = axes[:, :, 0, :width].transpose(1, 2), axes[:, :, 1, :height]

    # Each group of n views reads the same images.
    table = images.to(torch.float32).reshape(n, channels * height, width)
    x = torch.empty(count, channels * height, view_size, device=device)
    by_row = torch.empty(count, channels * height, 1, device=device)
    for first in range(0, count, n):
        part = slice(first, first + n)
        torch.bmm(table, columns[part], out=x[part])
        torch.bmm(table, means[part, 0, :width], out=by_row[part])

    mean_colour = torch.bmm(by_row.view(count, channels, height), means[:, 1, :height])
    grey = torch.bmm(colours.added[:, None], mean_colour)
    by_channel = x.view(count, channels, height * view_size, 1).unbind(1)
    factors = colours.matrix[:, None].unbind(-1)  # of one channel, in the three of the result: N×1×3
    # This also turns the channels to the end. As products of matrices of three rows it would be no product to speak of.
    coloured = torch.empty(count, height * view_size, channels, device=device)
    torch.addcmul(torch.addcmul(colours.shift, grey, colours.scale), factors[0], by_channel[0], out=coloured)
    coloured.addcmul_(factors[1], by_channel[1])
    coloured.addcmul_(factors[2], by_channel[2])

    out = torch.bmm(rows, coloured.view(count, height, view_size * channels))
    return out.view(count, view_size, view_size, channels).clamp_(colours.shift, colours.scale + colours.shift)


def _resize_matrices(p: ViewParameters, size: int, view_size: int) -> Tensor:
    """Crop, resize and flip along both axes: N×view_size×2×at least ``size``, columns first.

    Both axes lie side by side, so that one product blurs both.
    """
    start, extent = torch.stack([p.left, p.top], dim=1), torch.stack([p.width, p.height], dim=1)
    flip = torch.stack([p.flip, torch.zeros_like(p.flip)], dim=1)
    pixels, weights = resize_weights(start, extent, flip, size, view_size)
    n, _, _, taps = pixels.shape
    length = max(size, taps)
    matrices = torch.zeros(n, view_size, 2, length, device=pixels.device)
    begins = torch.arange(0, matrices.numel(), length, device=pixels.device).view(n, view_size, 2, 1).transpose(1, 2)
    # The pixels are successive and at most as many as a row is long, so that their remainders differ from each other:
    # those outside of the image, which weigh nothing, take the place of others that do. Of whole numbers: a GPU that
    # divides by an approximate reciprocal (Apple's) may give ``length`` itself as the remainder of floats.
    matrices.view(-1)[pixels.int().remainder(length) + begins] = weights
    return matrices


def _blur_matrices(sigma: Tensor, view_size: int) -> Tensor:
    """Blur along one axis, edges mirrored: N×view_size×view_size."""
    kernels = blur_kernels(sigma, view_size)
    return torch.mm(kernels, _mirror(kernels.shape[1], view_size, sigma.device)).view(-1, view_size, view_size)


@cache
def _mirror(kernel: int, view_size: int, device: torch.device) -> Tensor:
    """Where each tap of a kernel goes in the matrix of its blur: kernel×(view_size²) of zeros and ones."""
    with torch.inference_mode(False):
        places = F.one_hot(mirrored(kernel, view_size, device).long(), view_size)
        return places.transpose(0, 1).flatten(1).to(torch.float32)

"""What is drawn for a view, and the weights that it means: a resampling along one axis, the kernel of a blur."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ViewParameters:
    """What to do to each image: tensors of length N (``order``: N×4).

    ``top, left, height, width`` are the crop box in pixels; ``order`` is the sequence of brightness (0), contrast
    (1), saturation (2) and hue (3); factors of 1 and a hue of 0 change nothing; a ``sigma`` of 0 is no blur.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    order: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class ViewColours:
    """What to do to the pixels of N views before they are clipped.

    A pixel is multiplied by ``matrix`` (N×3×3); to all channels the product of ``added`` (N×3) and the view's mean
    colour is added, times ``scale`` (3,), and ``shift`` (3,) is. Both matrices take pixels in the images' own unit.
    """

    matrix: Tensor
    added: Tensor
    scale: Tensor
    shift: Tensor


@cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """These numbers on the device, kept there: to bring them anew, the host would wait for the GPU's work."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def blur_kernel(view_size: int) -> int:
    """Width of the blur kernel: odd, about a tenth of the view (appendix A), at least 3 pixels."""
    return max(3, view_size // 10 | 1)


def blur_kernels(sigma: Tensor, view_size: int) -> Tensor:
    """Gaussian kernels n×K of the view's blur; a sigma of 0 changes nothing."""
    radius = min(blur_kernel(view_size) // 2, view_size - 1)
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernels = F.threshold(kernels, 1e-9, 0.0)  # less, float32 does not notice, and a zero need not be computed with
    return kernels / kernels.sum(dim=1, keepdim=True)


def mirrored(kernel: int, view_size: int, device: torch.device) -> Tensor:
    """Which pixel each tap of a kernel meets at each place, edges mirrored: view_size×kernel int32."""
    offsets = torch.arange(-(kernel // 2), kernel // 2 + 1, dtype=torch.int32, device=device)
    pixels = (torch.arange(view_size, dtype=torch.int32, device=device)[:, None] + offsets).abs()
    return torch.where(pixels >= view_size, 2 * (view_size - 1) - pixels, pixels)


def resize_weights(start: Tensor, extent: Tensor, flip: Tensor, size: int, view_size: int) -> tuple[Tensor, Tensor]:
    """Bilinear antialiased resampling of the pixels [start, start + extent) of ``size``, mirrored where ``flip``.

    Args:
        start, extent, flip: (...), for each axis to resample.

    Returns:
        (...)×view_size×K: successive pixels, as whole numbers in float32, and their weights. Pixels outside of the
        crop, and so those outside of the image, weigh 0.
    """
    device = start.device
    out = torch.arange(view_size, device=device, dtype=torch.float32)
    out = torch.where(flip[..., None], view_size - 1 - out, out)
    scale = (extent.to(torch.float32) / view_size)[..., None]
    centre = (out + 0.5) * scale + (start[..., None] - 0.5)
    reach = scale.clamp(min=1)
    taps = math.ceil(2 * max(1.0, size / view_size))  # whole numbers in an open interval of twice the reach, at most
    pixels = (centre - reach).floor()[..., None] + torch.arange(1, taps + 1, device=device)
    weights = 1 - (pixels - centre[..., None]).abs() / reach[..., None]
    inside = (pixels >= start[..., None, None]) & (pixels < (start + extent)[..., None, None])
    weights = weights.clamp_(min=0).mul_(inside)
    weights /= weights.sum(dim=-1, keepdim=True)
    return pixels, weights

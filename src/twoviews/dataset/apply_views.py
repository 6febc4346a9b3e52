"""Make augmented views from drawn parameters, for a whole batch at once.

SimCLR's operations (Chen et al. 2020, appendix A) are linear in the pixels but for the final clipping. Crop, resize
(bilinear, antialiased, as torchvision resizes), flip and blur act on columns and rows separately; brightness,
contrast, saturation, hue and grayscale are one 3×3 matrix for each view and a grey to add. On a CPU the columns and
rows are sums of few (``view_taps``), elsewhere products of dense matrices (``view_matrices``): the same function of the
parameters, up to rounding.

What differs from torchvision given the same parameters: values are clipped to [0, 1] once at the end, not after each
operation; hue is a rotation of RGB about the grey axis (it equals the HSV shift at multiples of a third of a turn,
and keeps grey grey), not a trip through HSV.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from twoviews.dataset.view_matrices import by_matrices
from twoviews.dataset.view_parameters import ViewColours, ViewParameters, constant
from twoviews.dataset.view_taps import by_taps
from twoviews.processor import image_layout

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, as torchvision rounds it
_EYE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_CROSS = (0.0, -1.0, 1.0, 1.0, 0.0, -1.0, -1.0, 1.0, 0.0)  # the cross product with (1, 1, 1), row by row


def apply(
    images: Tensor,
    parameters: ViewParameters,
    view_size: int,
    *,
    blur: bool = True,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Make the views that ``parameters`` describe.

    Args:
        images: N×3×H×W uint8, or float in [0, 1].
        parameters: of count·N views; view number j·N + i is made of image i.
        view_size: height and width of the views in pixels.
        blur: False skips the blur where it is known that every sigma is 0.
        mean, std: the views come out as (x - mean) / std for each channel, x in [0, 1].

    Returns:
        count·N×3×view_size×view_size float32, laid out as the device wants images (``image_layout``).
    """
    scale = constant(std, images.device).reciprocal()
    shift = -constant(mean, images.device) * scale
    unit = 1.0 if images.is_floating_point() else 1 / 255
    make = by_taps if images.device.type == "cpu" else by_matrices
    # In float32 also where it is called under autocast, so that a monitor's views are training's.
    with torch.autocast(images.device.type, enabled=False):
        matrix, added = _colour(parameters)
        colours = ViewColours(unit * scale[:, None] * matrix, unit * added, scale, shift)
        made = make(images, parameters, colours, view_size, blur=blur).permute(0, 3, 1, 2)
        return made.contiguous(memory_format=image_layout(images.device))


def _colour(p: ViewParameters) -> tuple[Tensor, Tensor]:
    """Colour jitter in the drawn order, then grayscale, as a linear map of a pixel and of the image's mean colour.

    Returns:
        N×3×3 that multiplies a pixel, and N×3 whose product with the mean colour is to be added to all channels.
    """
    eye, luma = constant(_EYE, p.hue.device).view(3, 3), constant(_LUMA, p.hue.device)
    grey = luma.expand(3, 3)

    def factor(f: Tensor) -> Tensor:
        return f[:, None, None]

    operations = torch.stack(
        [
            factor(p.brightness) * eye,
            factor(p.contrast) * eye,
            factor(p.saturation) * eye + factor(1 - p.saturation) * grey,
            _hue_rotation(p.hue),
        ],
        dim=1,
    )
    operations = operations.gather(1, p.order[:, :, None, None].expand(-1, -1, 3, 3))
    # Contrast alone adds something: a share of the mean luma at that moment, the same for all channels. What follows
    # keeps grey grey, so it multiplies that by a number: the sum of any row of its matrix.
    added = torch.where(p.order == 1, (1 - p.contrast)[:, None], 0.0)
    gains = operations[:, :, 0].sum(dim=2)
    linear, shift = operations[:, 0], added[:, 0, None] * luma
    for position in range(1, 4):
        shift = shift * gains[:, position, None] + added[:, position, None] * (luma @ linear)
        linear = operations[:, position] @ linear
    dropped = p.grayscale[:, None]
    return torch.where(dropped[:, None], grey @ linear, linear), torch.where(dropped, luma.sum() * shift, shift)


def _hue_rotation(hue: Tensor) -> Tensor:
    """N×3×3: rotation of RGB about the grey axis by ``hue`` turns (Rodrigues' formula)."""
    angle = (2 * math.pi * hue)[:, None, None]
    cos, sin = torch.cos(angle), torch.sin(angle)
    eye, cross = (constant(values, hue.device).view(3, 3) for values in (_EYE, _CROSS))
    return cos * eye + (1 - cos) * (1 / 3) + sin * (cross / math.sqrt(3))

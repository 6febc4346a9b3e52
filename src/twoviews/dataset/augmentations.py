"""Augmented views: a distribution, and the draw of a whole batch's parameters from it.

The operations are SimCLR's (Chen et al. 2020, appendix A): random resized crop, horizontal flip, colour jitter,
grayscale, Gaussian blur. ``apply_views`` makes the views that the parameters describe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from twoviews.dataset.apply_views import apply
from twoviews.dataset.random_numbers import uniforms
from twoviews.dataset.view_parameters import ViewParameters, constant

_CROP_ATTEMPTS = 10  # as in torchvision's RandomResizedCrop: then the centre crop


@dataclass(frozen=True)
class Augmentation:
    """A distribution of views. Sizes in pixels, scales as fractions of the image's area.

    Attributes:
        view_size: height and width of a view.
        crop_scale: range of the crop's area; (1, 1) with ratio (1, 1) takes the whole image.
        crop_ratio: range of the crop's width over height, log-uniform.
        flip: probability of a horizontal flip.
        jitter: probability of colour jitter.
        brightness, contrast, saturation: factor is uniform in [max(0, 1 - x), 1 + x].
        hue: shift is uniform in [-hue, hue] turns, at most 0.5.
        grayscale: probability of dropping colour.
        blur: probability of a Gaussian blur with kernel ``blur_kernel(view_size)``.
        blur_sigma: range of its standard deviation in pixels of the view.
    """

    view_size: int
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    grayscale: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)


def draw(
    augmentation: Augmentation, image_size: int, seed: int, epoch: int | Tensor, indices: Tensor, view: int | Tensor
) -> ViewParameters:
    """Parameters of views: a pure function of its arguments.

    Args:
        image_size: height and width of the images in pixels.
        epoch: or a tensor () int64 on the device of ``indices``, where a recorded CUDA graph finds it changed.
        indices: (n,) int64, identities of the images, on the device where the parameters are wanted.
        view: number of the view (0 and 1 for SimCLR's two), or int64: (n,), one for each image, or (count, 1), each
            for all images.

    Returns:
        Parameters of n views, or of count·n: of the first for all images, then of the second, ...
    """
    a = augmentation
    # One row of numbers a view. The slots are fixed, so switching one operation off leaves the others' draws alone.
    slots = uniforms(seed, epoch, indices, view, count=2 * _CROP_ATTEMPTS + 14).flatten(end_dim=-2)
    top, left, height, width = _draw_crop(a, image_size, slots[:, 14:], slots[:, :2])
    u = slots.unbind(-1)
    plain = u[3] >= a.jitter

    def factor(strength: float, x: Tensor) -> Tensor:
        low, high = max(0.0, 1 - strength), 1 + strength
        return (low + (high - low) * x).masked_fill_(plain, 1.0)

    return ViewParameters(
        top=top,
        left=left,
        height=height,
        width=width,
        flip=u[2] < a.flip,
        order=torch.argsort(slots[:, 10:14], dim=-1, stable=True),
        brightness=factor(a.brightness, u[4]),
        contrast=factor(a.contrast, u[5]),
        saturation=factor(a.saturation, u[6]),
        hue=(a.hue * (2 * u[7] - 1)).masked_fill_(plain, 0.0),
        grayscale=u[8] < a.grayscale,
        # u[9] decides and, where it decides for blur, is rescaled to draw the sigma.
        sigma=(a.blur_sigma[0] + (a.blur_sigma[1] - a.blur_sigma[0]) * (u[9] / max(a.blur, 1e-12))).masked_fill_(
            u[9] >= a.blur, 0.0
        ),
    )


def _draw_crop(a: Augmentation, image_size: int, attempts: Tensor, place: Tensor) -> tuple[Tensor, ...]:
    """Crop boxes as torchvision's RandomResizedCrop draws them: ten attempts, then the whole (square) image.

    Args:
        attempts: N×20, numbers in [0, 1) for the area and the ratio of each in turn.
        place: N×2, the same for the top and the left.

    Returns:
        Top, left, height and width, each (N,) int64.
    """
    area = image_size**2 * (a.crop_scale[0] + (a.crop_scale[1] - a.crop_scale[0]) * attempts[:, 0::2])
    log_low, log_high = math.log(a.crop_ratio[0]), math.log(a.crop_ratio[1])
    ratio = torch.exp(log_low + (log_high - log_low) * attempts[:, 1::2])
    sides = torch.stack([area / ratio, area * ratio], dim=1).sqrt().round().long()  # N×(height, width)×attempts
    fits = ((sides > 0) & (sides <= image_size)).all(dim=1, keepdim=True)
    first = fits.int().argmax(dim=2, keepdim=True).expand(-1, 2, 1)
    side = torch.where(fits.any(dim=2), sides.gather(2, first)[:, :, 0], image_size)
    start = (place * (image_size - side + 1)).long()
    return *start.unbind(1), *side.unbind(1)


def views(
    images: Tensor,
    indices: Tensor,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int | Tensor,
    count: int = 2,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> Tensor:
    """``count`` views of each image as one batch: all first views, then all second views, ...

    Args:
        images: N×3×H×W uint8, H = W.
        indices: (N,) int64, the images' identities, on the same device.
        seed, epoch: of the draw; an epoch may be a tensor () int64, as in ``draw``.
        count: views of each image.
        mean, std: of each channel in units of [0, 1]; views come out as (x - mean) / std. The defaults give [0, 1].

    Returns:
        (count·N)×3×view_size×view_size, float32, laid out as in ``apply``.

    Raises:
        ValueError: images or indices of another shape or type.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be N×3×H×H uint8, got {tuple(images.shape)} {images.dtype}")
    if indices.shape != images.shape[:1] or indices.dtype != torch.int64:
        raise ValueError(
            f"indices must be ({len(images)},) int64, one for each image, got {tuple(indices.shape)} {indices.dtype}"
        )
    each = torch.arange(count, device=indices.device)[:, None]
    parameters = draw(augmentation, images.shape[2], seed, epoch, indices, each)
    size, blur = augmentation.view_size, augmentation.blur > 0
    return apply(images, parameters, size, blur=blur, mean=mean, std=std)


def one_view(
    images: Tensor, indices: Tensor, augmentation: Augmentation, *, seed: int, epoch: int, view: int
) -> Tensor:
    """View number ``view`` of each image, as ``views`` makes it among others: N×3×view_size×view_size in [0, 1]."""
    parameters = draw(augmentation, images.shape[2], seed, epoch, indices, view)
    return apply(images, parameters, augmentation.view_size, blur=augmentation.blur > 0)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images as a network takes them: (x - mean) / std for each channel.

    Args:
        images: N×3×H×W uint8, or float in [0, 1].
        mean, std: of each channel, in units of [0, 1].
    """
    x = images.to(torch.float32)
    if not images.is_floating_point():
        x = x / 255
    scale = constant(std, x.device).reciprocal().view(1, -1, 1, 1)
    shift = constant(mean, x.device).view(1, -1, 1, 1)
    return (x - shift) * scale

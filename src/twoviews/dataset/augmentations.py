"""Augmented views: draw the parameters of a whole batch, then apply them in three matrix products.

The operations are SimCLR's (Chen et al. 2020, appendix A): random resized crop, horizontal flip, colour jitter,
grayscale, Gaussian blur. All are linear in the pixels but for the final clipping, so they fold together:

- crop, resize, flip and blur act on rows and columns separately: one matrix for the rows and one for the columns
  of each image (bilinear with antialiasing, as torchvision resizes);
- brightness, contrast, saturation, hue and grayscale act on the colour of a pixel: one 3×4 matrix for each image.

What differs from torchvision given the same parameters: values are clipped to [0, 1] once at the end, not after each
operation; hue is a rotation of RGB about the grey axis (it equals the HSV shift at multiples of a third of a turn,
and keeps grey grey), not a trip through HSV; blur comes before colour, which differs only through clipping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from twoviews.dataset.random_numbers import uniforms

_CROP_ATTEMPTS = 10  # as in torchvision's RandomResizedCrop: then the centre crop
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, as torchvision rounds it


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

    @staticmethod
    def concatenate(parts: list[ViewParameters]) -> ViewParameters:
        """The parameters of several batches as one."""
        return ViewParameters(
            **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(ViewParameters)}
        )


def blur_kernel(view_size: int) -> int:
    """Width of the blur kernel: odd, about a tenth of the view (appendix A), at least 3 pixels."""
    return max(3, view_size // 10 | 1)


def draw(
    augmentation: Augmentation, image_size: int, seed: int, epoch: int, indices: Tensor, view: int
) -> ViewParameters:
    """Parameters of one view of each image: a pure function of its arguments.

    Args:
        image_size: height and width of the images in pixels.
        indices: (N,) int64, identities of the images, on the device where the parameters are wanted.
        view: number of the view (0 and 1 for SimCLR's two).
    """
    a = augmentation
    # One row of numbers an image. The slots are fixed, so switching one operation off leaves the others' draws alone.
    u = uniforms(seed, epoch, indices, view, count=2 * _CROP_ATTEMPTS + 14).unbind(-1)
    top, left, height, width = _draw_crop(a, image_size, torch.stack(u[14:], dim=-1), u[0], u[1])
    jitter = u[3] < a.jitter

    def factor(strength: float, x: Tensor) -> Tensor:
        low, high = max(0.0, 1 - strength), 1 + strength
        return torch.where(jitter, low + (high - low) * x, 1.0)

    return ViewParameters(
        top=top,
        left=left,
        height=height,
        width=width,
        flip=u[2] < a.flip,
        order=torch.argsort(torch.stack(u[10:14], dim=-1), dim=-1, stable=True),
        brightness=factor(a.brightness, u[4]),
        contrast=factor(a.contrast, u[5]),
        saturation=factor(a.saturation, u[6]),
        hue=torch.where(jitter, a.hue * (2 * u[7] - 1), 0.0),
        grayscale=u[8] < a.grayscale,
        # u[9] decides and, where it decides for blur, is rescaled to draw the sigma.
        sigma=torch.where(
            u[9] < a.blur,
            a.blur_sigma[0] + (a.blur_sigma[1] - a.blur_sigma[0]) * (u[9] / max(a.blur, 1e-12)),
            0.0,
        ),
    )


def _draw_crop(
    a: Augmentation, image_size: int, attempts: Tensor, u_top: Tensor, u_left: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Crop boxes as torchvision's RandomResizedCrop draws them: ten attempts, then the whole (square) image."""
    area = image_size**2 * (a.crop_scale[0] + (a.crop_scale[1] - a.crop_scale[0]) * attempts[:, 0::2])
    log_low, log_high = math.log(a.crop_ratio[0]), math.log(a.crop_ratio[1])
    ratio = torch.exp(log_low + (log_high - log_low) * attempts[:, 1::2])
    width = torch.round(torch.sqrt(area * ratio)).long()
    height = torch.round(torch.sqrt(area / ratio)).long()
    fits = (width > 0) & (width <= image_size) & (height > 0) & (height <= image_size)
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    width = torch.where(found, width.gather(1, first)[:, 0], image_size)
    height = torch.where(found, height.gather(1, first)[:, 0], image_size)
    top = (u_top * (image_size - height + 1)).long()
    left = (u_left * (image_size - width + 1)).long()
    return top, left, height, width


def apply(images: Tensor, parameters: ViewParameters, view_size: int, blur: bool = True) -> Tensor:
    """Make the views that ``parameters`` describe.

    Args:
        images: N×3×H×W uint8, or float in [0, 1].
        view_size: height and width of the views in pixels.
        blur: False skips the blur matrices where it is known that every sigma is 0.

    Returns:
        N×3×view_size×view_size float32 in [0, 1].
    """
    p = parameters
    x = images.to(torch.float32)
    if not images.is_floating_point():
        x = x / 255
    never = torch.zeros_like(p.flip)
    rows = _resize_matrix(p.top, p.height, never, x.shape[2], view_size)
    columns = _resize_matrix(p.left, p.width, p.flip, x.shape[3], view_size)
    if blur:
        blurring = _blur_matrix(p.sigma, view_size)
        rows, columns = blurring @ rows, blurring @ columns
    n, channels, height, width = x.shape
    x = torch.bmm(x.reshape(n, channels * height, width), columns.transpose(1, 2))
    x = torch.matmul(rows.unsqueeze(1), x.view(n, channels, height, view_size))
    flat = x.view(n, channels, view_size**2)
    colour = _colour_matrix(p, flat.mean(dim=2))
    flat = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], flat)
    return flat.clamp_(0, 1).view(n, channels, view_size, view_size)


def _resize_matrix(start: Tensor, extent: Tensor, flip: Tensor, size: int, view_size: int) -> Tensor:
    """N×view_size×size: bilinear antialiased resampling of [start, start + extent), mirrored where ``flip``."""
    device = start.device
    out = torch.arange(view_size, device=device, dtype=torch.float32)
    out = torch.where(flip[:, None], view_size - 1 - out, out)
    scale = (extent.to(torch.float32) / view_size)[:, None]
    centre = (out + 0.5) * scale + start[:, None]
    pixel = torch.arange(size, device=device, dtype=torch.float32)
    distance = (pixel + 0.5 - centre[:, :, None]).abs() / scale.clamp(min=1)[:, :, None]
    inside = (pixel >= start[:, None]) & (pixel < (start + extent)[:, None])
    weights = (1 - distance).clamp(min=0) * inside[:, None, :]
    return weights / weights.sum(dim=2, keepdim=True)


def _blur_matrix(sigma: Tensor, view_size: int) -> Tensor:
    """N×view_size×view_size: Gaussian blur along one axis, edges mirrored; the identity where sigma is 0."""
    radius = min(blur_kernel(view_size) // 2, view_size - 1)
    taps = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (taps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    source = torch.arange(view_size, device=sigma.device)[None] + taps.long()[:, None]
    source = source.abs()
    source = torch.where(source >= view_size, 2 * (view_size - 1) - source, source)
    shifts = F.one_hot(source, view_size).to(torch.float32)
    return (kernel @ shifts.view(len(taps), -1)).view(-1, view_size, view_size)


def _colour_matrix(p: ViewParameters, mean: Tensor) -> Tensor:
    """N×3×4: colour jitter in the drawn order, then grayscale, of images whose mean colour is ``mean`` (N×3)."""
    n, device = len(mean), mean.device
    eye = torch.eye(3, device=device).expand(n, 3, 3)
    luma = torch.tensor(_LUMA, device=device)
    grey = luma.expand(3, 3)

    def mix(factor: Tensor, other: Tensor) -> Tensor:
        f = factor[:, None, None]
        return f * eye + (1 - f) * other

    # Linear parts of the four operations; only contrast has an offset, and it depends on the mean at that moment.
    operations = torch.stack(
        [
            mix(p.brightness, torch.zeros_like(grey)),
            mix(p.contrast, torch.zeros_like(grey)),
            mix(p.saturation, grey),
            _hue_rotation(p.hue),
        ],
        dim=1,
    )
    linear, offset = eye, torch.zeros(n, 3, 1, device=device)
    each = torch.arange(n, device=device)
    for position in range(4):
        which = p.order[:, position]
        operation = operations[each, which]
        mean_luma = (luma * (linear @ mean[:, :, None] + offset)[:, :, 0]).sum(dim=1)
        shift = torch.where(which == 1, (1 - p.contrast) * mean_luma, 0.0)
        linear = operation @ linear
        offset = operation @ offset + shift[:, None, None]
    final = torch.where(p.grayscale[:, None, None], grey, eye)
    return torch.cat([final @ linear, final @ offset], dim=2)


def _hue_rotation(hue: Tensor) -> Tensor:
    """N×3×3: rotation of RGB about the grey axis by ``hue`` turns (Rodrigues' formula)."""
    angle = (2 * math.pi * hue)[:, None, None]
    eye = torch.eye(3, device=hue.device)
    third = torch.full((3, 3), 1 / 3, device=hue.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=hue.device) / math.sqrt(3)
    return torch.cos(angle) * eye + (1 - torch.cos(angle)) * third + torch.sin(angle) * cross


def views(
    images: Tensor, indices: Tensor, augmentation: Augmentation, *, seed: int, epoch: int, count: int = 2
) -> Tensor:
    """``count`` views of each image as one batch: all first views, then all second views, ...

    Args:
        images: N×3×H×W uint8 (H = W).
        indices: (N,) int64, the images' identities.

    Returns:
        (count·N)×3×view_size×view_size float32 in [0, 1].
    """
    size = images.shape[2]
    drawn = [draw(augmentation, size, seed, epoch, indices, view) for view in range(count)]
    parameters = ViewParameters.concatenate(drawn)
    repeated = images.repeat(count, 1, 1, 1) if count > 1 else images
    return apply(repeated, parameters, augmentation.view_size, blur=augmentation.blur > 0)


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
    scale = torch.tensor(std, device=x.device).reciprocal().view(1, -1, 1, 1)
    shift = torch.tensor(mean, device=x.device).view(1, -1, 1, 1)
    return (x - shift) * scale

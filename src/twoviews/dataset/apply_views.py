"""Make augmented views from drawn parameters: weighted sums of a few rows, for a whole batch at once.

SimCLR's operations (Chen et al. 2020, appendix A) are linear in the pixels but for the final clipping, and each row of
a result is made of few rows: three channels for a colour, two or three pixels for a bilinear resampling (antialiased,
as torchvision resizes), the kernel's taps for a blur. So each operation is one ``embedding_bag``: a table of rows, and
for each row wanted the numbers and weights of those to add. As products of dense matrices the same takes seven (with
blur) to twenty times the multiplications. Crop, resize and flip are one sum for the columns and one for the rows;
brightness, contrast, saturation, hue and grayscale are one 3×3 matrix for each view.

What differs from torchvision given the same parameters: values are clipped to [0, 1] once at the end, not after each
operation; hue is a rotation of RGB about the grey axis (it equals the HSV shift at multiples of a third of a turn,
and keeps grey grey), not a trip through HSV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, as torchvision rounds it
_CHUNK_VALUES = 500_000  # of float32 a thread: the few copies of a chunk stay in a core's share of L3


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


def blur_kernel(view_size: int) -> int:
    """Width of the blur kernel: odd, about a tenth of the view (appendix A), at least 3 pixels."""
    return max(3, view_size // 10 | 1)


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
        count·N×3×view_size×view_size float32, channels last.
    """
    p, device, (n, _, height, width), count = parameters, images.device, images.shape, len(parameters.top)
    scale = torch.tensor(std, device=device).reciprocal()
    shift = -torch.tensor(mean, device=device) * scale
    # Rows of pixels, because broadcasting over three channels alone is slow.
    low, high = shift.repeat(view_size), (scale + shift).repeat(view_size)
    # In float32 also where it is called under autocast, so that a monitor's views are training's.
    with torch.autocast(device.type, enabled=False):
        colour, added = _colour(p)
    unit = 1.0 if images.is_floating_point() else 1 / 255
    chunk = _chunk(images, view_size)
    table_number = (torch.arange(n, device=device) % chunk).repeat(count // n)
    plan = _Plan(
        columns=_resize_taps(p.left, p.width, p.flip, width, view_size, table_number),
        rows=_resize_taps(p.top, p.height, torch.zeros_like(p.flip), height, view_size, table_number),
        colour=unit * scale[:, None] * colour,
        added=unit * added,
        kernels=_blur_kernels(p.sigma, view_size) if blur else None,
    )
    out = torch.empty(count, view_size, view_size * 3, device=device)
    for start in range(0, n, chunk):
        turned = images[start : start + chunk].permute(0, 3, 1, 2)
        table = torch.empty(turned.shape, device=device).copy_(turned)
        for first in range(start, count, n):
            part = slice(first, first + len(table))
            x, grey = _resample(table, plan[part])
            x += (grey * scale + shift).repeat(1, view_size)[:, None]
            torch.clamp(x, low, high, out=out[part])
    return out.view(count, view_size, view_size, 3).permute(0, 3, 1, 2)


def _chunk(images: Tensor, view_size: int) -> int:
    """Images that go through at once: on a CPU as many as stay in its cache, elsewhere all."""
    if images.device.type != "cpu":
        return len(images)
    values = 3 * max(images.shape[2], view_size) * max(images.shape[3], view_size)
    return max(1, _CHUNK_VALUES * torch.get_num_threads() // values)


@dataclass(frozen=True)
class _Taps:
    """Which rows make each row of a result: their numbers (n×B×K, int32) and weights (n×B×K).

    The numbers count through the tables of all images that go through at once. With ``starts``, the first of each sum,
    sums may differ in length, and numbers and weights lie behind each other in one dimension.
    """

    rows: Tensor
    weights: Tensor
    starts: Tensor | None = None

    def __getitem__(self, part: slice) -> _Taps:
        return _Taps(self.rows[part], self.weights[part])

    def mean(self) -> _Taps:
        """Taps that make the mean of all the rows that these make."""
        return _Taps(self.rows.flatten(1)[:, None], self.weights.flatten(1)[:, None] / self.rows.shape[1])

    def without_zeros(self) -> _Taps:
        """The same without the rows that weigh nothing."""
        some = self.weights != 0
        counts = some.sum(dim=2, dtype=torch.int32).view(-1)
        starts = counts.cumsum(0, dtype=torch.int32) - counts
        return _Taps(self.rows.masked_select(some), self.weights.masked_select(some), starts)


def _sum_rows(tables: Tensor, taps: _Taps) -> Tensor:
    """The sums n×B×D that ``taps`` describe of the rows of n tables (n×R×D)."""
    n, _, width = tables.shape
    rows, weights = taps.rows, taps.weights
    if taps.starts is None:
        rows, weights = rows.flatten(0, 1), weights.flatten(0, 1)
    sums = F.embedding_bag(rows, tables.view(-1, width), taps.starts, per_sample_weights=weights, mode="sum")
    return sums.view(n, -1, width)


@dataclass(frozen=True)
class _Plan:
    """What makes n views: taps of columns and rows, 3×3 colour matrix, what to add per mean colour, blur kernel."""

    columns: _Taps
    rows: _Taps
    colour: Tensor
    added: Tensor
    kernels: Tensor | None

    def __getitem__(self, part: slice) -> _Plan:
        kernels = self.kernels if self.kernels is None else self.kernels[part]
        return _Plan(self.columns[part], self.rows[part], self.colour[part], self.added[part], kernels)


def _resample(table: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
    """Crop, resize and flip n images, change their colours and blur them.

    Args:
        table: n×W×3×H, so that a row of an image's table is a column of its pixels.

    Returns:
        n×view_size×(view_size·3), channels last; n×1, the grey to add to each view.
    """
    n, _, channels, height = table.shape
    x = _sum_rows(table.flatten(2), plan.columns)
    by_row = x.mean(dim=1).view(n, channels, height).transpose(1, 2).contiguous()
    mean_colour = _sum_rows(by_row, plan.rows.mean()).view(n, channels)
    size = x.shape[1]
    x = _sum_rows(x.view(n, size * channels, height), _colour_taps(plan.colour, size)).view(x.shape)
    if plan.kernels is not None:
        # On a GPU the host would have to wait for the number of weights that are not 0.
        blur = _blur_taps(plan.kernels, size, ragged=table.device.type == "cpu")
        x = _sum_rows(x, blur)
    x = _sum_rows(x.view(n, size * channels, height).transpose(1, 2).contiguous(), plan.rows)
    if plan.kernels is not None:
        x = _sum_rows(x, blur)
    return x, (plan.added * mean_colour).sum(dim=1, keepdim=True)


def _colour_taps(colour: Tensor, width: int) -> _Taps:
    """Multiply the colours of n images, as tables of width·3 rows, by their 3×3 matrices."""
    rows = torch.arange(3 * width * len(colour), dtype=torch.int32, device=colour.device)
    rows = rows.view(-1, 1, 3).expand(-1, 3, -1).reshape(len(colour), -1, 3)
    return _Taps(rows, colour.reshape(-1, 1, 9).expand(-1, width, -1).reshape(rows.shape))


def _resize_taps(start: Tensor, extent: Tensor, flip: Tensor, size: int, view_size: int, table_number: Tensor) -> _Taps:
    """Bilinear antialiased resampling of the pixels [start, start + extent), mirrored where ``flip``."""
    device = start.device
    out = torch.arange(view_size, device=device, dtype=torch.float32)
    out = torch.where(flip[:, None], view_size - 1 - out, out)
    scale = (extent.to(torch.float32) / view_size)[:, None]
    centre = (out + 0.5) * scale + (start[:, None] - 0.5)
    reach = scale.clamp(min=1)
    taps = math.ceil(2 * max(1.0, size / view_size))  # whole numbers in an open interval of twice the reach, at most
    rows = (centre - reach).floor()[:, :, None] + torch.arange(1, taps + 1, device=device)
    weights = 1 - (rows - centre[:, :, None]).abs() / reach[:, :, None]
    inside = (rows >= start[:, None, None]) & (rows < (start + extent)[:, None, None])
    weights = weights.clamp_(min=0).mul_(inside)
    weights /= weights.sum(dim=2, keepdim=True)
    return _Taps(rows.clamp_(0, size - 1).int() + (size * table_number).int()[:, None, None], weights)


def _blur_kernels(sigma: Tensor, view_size: int) -> Tensor:
    """Gaussian kernels n×K of the view's blur; a sigma of 0 changes nothing."""
    radius = min(blur_kernel(view_size) // 2, view_size - 1)
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernels = F.threshold(kernels, 1e-9, 0.0)  # less, float32 does not notice, and a zero need not be computed with
    return kernels / kernels.sum(dim=1, keepdim=True)


def _blur_taps(kernels: Tensor, view_size: int, *, ragged: bool) -> _Taps:
    """Blur n views along their rows by the kernels (n×K), edges mirrored; ``ragged`` leaves out weights of 0."""
    (n, k), device = kernels.shape, kernels.device
    offsets = torch.arange(-(k // 2), k // 2 + 1, dtype=torch.int32, device=device)
    rows = (torch.arange(view_size, dtype=torch.int32, device=device)[:, None] + offsets).abs()
    rows = torch.where(rows >= view_size, 2 * (view_size - 1) - rows, rows)
    rows = rows + torch.arange(0, n * view_size, view_size, dtype=torch.int32, device=device)[:, None, None]
    taps = _Taps(rows, kernels[:, None].expand(-1, view_size, -1))
    return taps.without_zeros() if ragged else taps


def _colour(p: ViewParameters) -> tuple[Tensor, Tensor]:
    """Colour jitter in the drawn order, then grayscale, as a linear map of a pixel and of the image's mean colour.

    Returns:
        N×3×3 that multiplies a pixel, and N×3 whose product with the mean colour is to be added to all channels.
    """
    n, device = len(p.hue), p.hue.device
    eye = torch.eye(3, device=device)
    luma = torch.tensor(_LUMA, device=device)
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
    linear, shift = eye.expand(n, 3, 3), torch.zeros(n, 3, device=device)
    for position in range(4):
        shift = shift * gains[:, position, None] + added[:, position, None] * (luma @ linear)
        linear = operations[:, position] @ linear
    dropped = p.grayscale[:, None]
    return torch.where(dropped[:, None], grey @ linear, linear), torch.where(dropped, luma.sum() * shift, shift)


def _hue_rotation(hue: Tensor) -> Tensor:
    """N×3×3: rotation of RGB about the grey axis by ``hue`` turns (Rodrigues' formula)."""
    angle = (2 * math.pi * hue)[:, None, None]
    eye = torch.eye(3, device=hue.device)
    third = torch.full((3, 3), 1 / 3, device=hue.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=hue.device) / math.sqrt(3)
    return torch.cos(angle) * eye + (1 - torch.cos(angle)) * third + torch.sin(angle) * cross

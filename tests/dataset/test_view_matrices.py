"""The form of views for GPUs against the form for CPUs, and what a CUDA graph asks of it; all on a CPU."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from twoviews.dataset import apply_views
from twoviews.dataset.apply_views import apply
from twoviews.dataset.augmentations import Augmentation, draw
from twoviews.dataset.view_matrices import by_matrices
from twoviews.dataset.view_parameters import ViewParameters
from twoviews.dataset.view_taps import by_taps

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.26, 0.27)
# Allocations and other looks at the same memory: not kernels.
_FREE = {"view", "_unsafe_view", "expand", "transpose", "permute", "select", "slice", "unbind", "unsqueeze", "empty"}


def drawn(n: int, size: int, view_size: int, count: int = 2, **changes: object) -> ViewParameters:
    augmentation = Augmentation(view_size=view_size, crop_scale=(1e-4, 1.0), blur=0.7, grayscale=0.3)
    return replace(draw(augmentation, size, 0, 0, torch.arange(n), torch.arange(count)[:, None]), **changes)


def images_of(n: int, height: int, width: int | None = None) -> torch.Tensor:
    torch.manual_seed(height)
    return torch.randint(0, 256, (n, 3, height, width or height), dtype=torch.uint8)


def dense(monkeypatch: pytest.MonkeyPatch, *args: object, **options: object) -> torch.Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(apply_views, "by_taps", by_matrices)
        return apply(*args, **options)


@pytest.mark.parametrize("blur", [True, False])
@pytest.mark.parametrize(("size", "view_size"), [(32, 24), (32, 32), (96, 96), (48, 64), (96, 32)])
def test_both_forms_make_the_same_views(monkeypatch, size, view_size, blur):
    images, p = images_of(12, size), drawn(12, size, view_size)
    p.height[:2], p.width[1:3] = 1, 1  # such crops are rare
    assert all(0 < int(x.sum()) < 24 for x in (p.flip, p.grayscale, p.sigma > 0))
    ours = dense(monkeypatch, images, p, view_size, blur=blur)
    assert torch.allclose(ours, apply(images, p, view_size, blur=blur), atol=1e-5, rtol=0)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    normalised = dense(monkeypatch, images, p, view_size, blur=blur, mean=MEAN, std=STD)
    # In units of [0, 1], as the other.
    difference = (normalised - apply(images, p, view_size, blur=blur, mean=MEAN, std=STD)).abs().max()
    assert difference * max(STD) < 1e-5


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("form", ["uint8", "float", "channels last"])
def test_any_images_and_number_of_views(monkeypatch, count, form):
    images, p = images_of(5, 20), drawn(5, 20, 16, count)
    if form != "uint8":
        images = images / 255
    if form == "channels last":
        images = images.to(memory_format=torch.channels_last)
    ours = dense(monkeypatch, images, p, 16)
    assert ours.shape == (5 * count, 3, 16, 16)
    assert torch.allclose(ours, apply(images, p, 16), atol=1e-5, rtol=0)


@pytest.mark.parametrize("view_size", [1, 2, 3, 12])
def test_crops_of_one_pixel_and_views_smaller_than_the_blur(monkeypatch, view_size):
    images = images_of(4, 9)
    corners = torch.tensor([0, 8, 0, 8]), torch.tensor([0, 0, 8, 8])
    one = torch.ones(4, dtype=torch.long)
    p = drawn(4, 9, view_size, 1, top=corners[0], left=corners[1], height=one, width=one, sigma=torch.full((4,), 2.0))
    ours = dense(monkeypatch, images, p, view_size)
    assert torch.allclose(ours, apply(images, p, view_size), atol=1e-5, rtol=0)
    # All of a view is its one pixel.
    assert torch.allclose(ours, ours[:, :, :1, :1].expand_as(ours), atol=1e-6)
    wide = replace(p, top=0 * one, left=0 * one, height=9 * one, width=9 * one)
    ours = dense(monkeypatch, images, wide, view_size)
    assert torch.allclose(ours, apply(images, wide, view_size), atol=1e-5, rtol=0)


def test_images_that_are_not_square_and_images_of_one_pixel(monkeypatch):
    for height, width in ((10, 25), (25, 10), (1, 1)):
        images, p = images_of(6, height, width), drawn(6, min(height, width), 8)
        assert torch.allclose(dense(monkeypatch, images, p, 8), apply(images, p, 8), atol=1e-5, rtol=0)


def test_the_matrices_are_made_in_float32_under_autocast(monkeypatch):
    images, p = images_of(4, 16), drawn(4, 16, 12)
    plain = dense(monkeypatch, images, p, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dense(monkeypatch, images, p, 12), plain)


class Kernels(TorchDispatchMode):
    """The operations that a device computes: about one kernel each."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        if name not in _FREE:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def test_a_cuda_graph_could_record_it(monkeypatch):
    """On torch's device without memory whatever needs a value on the host, or a shape from the data, is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: torch.inference_mode())  # which knows no such device
    images = torch.empty(8, 3, 96, 96, dtype=torch.uint8, device="meta")
    rows, epoch = (torch.empty(shape, dtype=torch.int64, device="meta") for shape in ((8,), ()))

    def step() -> tuple[torch.Tensor, int]:
        each = torch.arange(2, device="meta")[:, None]
        p = draw(Augmentation(view_size=96), 96, 0, epoch, rows, each)
        drawing = len(kernels.names)
        return apply(images, p, 96, mean=MEAN, std=STD), drawing

    with Kernels() as kernels:  # it also makes the constants that are kept
        step()
    kernels.names.clear()
    with kernels:
        out, drawing = step()
    assert out.shape == (16, 3, 96, 96)
    assert out.device.type == "meta"
    # Not of this kind: copies from the host, which would wait, and additions in an order that is not fixed.
    bad = {"lift_fresh", "copy_", "_local_scalar_dense", "nonzero", "masked_select", "scatter_add", "index_add"}
    assert not bad & set(kernels.names)
    assert drawing <= 120
    assert len(kernels.names) - drawing <= 115
    monkeypatch.setattr(apply_views, "by_matrices", by_taps)  # whose blur has as many taps as weigh something
    with pytest.raises(NotImplementedError), kernels:
        step()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("image_size", "view_size"), [(32, 24), (96, 96)])
def test_a_gpu_makes_the_views_of_a_cpu(image_size: int, view_size: int) -> None:
    images = torch.randint(0, 256, (16, 3, image_size, image_size), dtype=torch.uint8)
    augmentation = Augmentation(view_size)
    here = draw(augmentation, image_size, 1, 2, torch.arange(16), 0)
    there = draw(augmentation, image_size, 1, torch.tensor(2, device="cuda"), torch.arange(16, device="cuda"), 0)
    for name, drawn in vars(here).items():  # a root that is rounded the other way moves a crop's edge by a pixel
        nearly = 1.01 if name in ("top", "left", "height", "width") else 1e-5
        assert torch.allclose(getattr(there, name).cpu().double(), drawn.double(), rtol=0, atol=nearly), name
    same = ViewParameters(**{name: drawn.cuda() for name, drawn in vars(here).items()})
    found = apply(images.cuda(), same, view_size)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found.cpu(), apply(images, here, view_size), atol=2e-5)

"""Each operation against torchvision's functional form given the same parameters; draws against its transforms."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from twoviews.dataset import view_taps
from twoviews.dataset.apply_views import apply
from twoviews.dataset.augmentations import Augmentation, draw, normalise, one_view, views
from twoviews.dataset.random_numbers import epoch_order, random_bits, uniforms
from twoviews.dataset.view_parameters import ViewParameters, blur_kernel, blur_kernels


def smooth_images(n: int = 6, size: int = 32) -> torch.Tensor:
    """Random but image-like pictures, in the middle of the range, so that nothing clips."""
    torch.manual_seed(0)
    coarse = torch.rand(n, 3, 5, 5) * 0.4 + 0.3
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0.25, 0.75)


def identity(n: int, size: int = 32) -> ViewParameters:
    one, zero = torch.ones(n), torch.zeros(n, dtype=torch.long)
    return ViewParameters(
        top=zero,
        left=zero,
        height=zero + size,
        width=zero + size,
        flip=zero.bool(),
        order=torch.arange(4).expand(n, 4),
        brightness=one,
        contrast=one,
        saturation=one,
        hue=0 * one,
        grayscale=zero.bool(),
        sigma=0 * one,
    )


def test_identity_changes_nothing():
    images = smooth_images()
    assert torch.allclose(apply(images, identity(6), 32), images, atol=1e-6)


@pytest.mark.parametrize("view_size", [24, 32, 48])
def test_crop_resize_flip_is_torchvisions(view_size):
    images = (smooth_images() * 255).round().to(torch.uint8)
    p = replace(
        identity(6),
        top=torch.tensor([0, 3, 10, 0, 20, 1]),
        left=torch.tensor([0, 5, 2, 31, 0, 1]),
        height=torch.tensor([32, 20, 22, 32, 12, 30]),
        width=torch.tensor([32, 17, 30, 1, 9, 31]),
        flip=torch.tensor([False, True, False, True, True, False]),
    )
    ours = apply(images, p, view_size)
    for i in range(6):
        box = [int(v[i]) for v in (p.top, p.left, p.height, p.width)]
        expected = TF.resized_crop(images[i].float() / 255, *box, size=[view_size, view_size], antialias=True)
        if p.flip[i]:
            expected = TF.horizontal_flip(expected)
        assert torch.allclose(ours[i], expected, atol=2e-6), i


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("brightness", TF.adjust_brightness),
        ("contrast", TF.adjust_contrast),
        ("saturation", TF.adjust_saturation),
    ],
)
@pytest.mark.parametrize("factor", [0.2, 0.75, 1.3])
def test_colour_factors_are_torchvisions(name, function, factor):
    images = smooth_images()
    ours = apply(images, replace(identity(6), **{name: torch.full((6,), factor)}), 32)
    assert torch.allclose(ours, function(images, factor), atol=1e-5)


@pytest.mark.parametrize("hue", [-1 / 3, 1 / 3])
def test_hue_equals_hsv_at_a_third_of_a_turn(hue):
    images = smooth_images()
    ours = apply(images, replace(identity(6), hue=torch.full((6,), hue)), 32)
    assert torch.allclose(ours, TF.adjust_hue(images, hue), atol=1e-4)


@pytest.mark.parametrize("hue", [-0.2, -0.1, 0.05, 0.1, 0.2])
def test_hue_moves_as_hsv_does_and_keeps_grey(hue):
    images = smooth_images()
    ours = apply(images, replace(identity(6), hue=torch.full((6,), hue)), 32)
    ours_moved, hsv_moved = ours - images, TF.adjust_hue(images, hue) - images
    cosine = (ours_moved * hsv_moved).sum() / (ours_moved.norm() * hsv_moved.norm())
    assert cosine > 0.8
    assert 0.75 < ours_moved.norm() / hsv_moved.norm() < 1.05
    grey = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert torch.allclose(apply(grey, replace(identity(6), hue=torch.full((6,), hue)), 32), grey, atol=1e-6)


def test_grayscale_is_torchvisions():
    images = smooth_images()
    ours = apply(images, replace(identity(6), grayscale=torch.ones(6, dtype=torch.bool)), 32)
    assert torch.allclose(ours, TF.rgb_to_grayscale(images, 3), atol=1e-4)


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_torchvisions(size, sigma):
    images = smooth_images(size=size)
    ours = apply(images, replace(identity(6, size), sigma=torch.full((6,), sigma)), size)
    assert torch.allclose(ours, TF.gaussian_blur(images, [blur_kernel(size)] * 2, [sigma] * 2), atol=1e-5)


def test_jitter_in_any_order_is_torchvisions_sequence():
    images = smooth_images()
    orders = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [1, 0, 2, 3], [0, 2, 1, 3]])
    p = replace(
        identity(6),
        order=orders,
        brightness=torch.full((6,), 1.1),
        contrast=torch.full((6,), 0.8),
        saturation=torch.full((6,), 1.2),
        hue=torch.full((6,), 1 / 3),
    )
    ours = apply(images, p, 32)
    operations = [
        lambda x: TF.adjust_brightness(x, 1.1),
        lambda x: TF.adjust_contrast(x, 0.8),
        lambda x: TF.adjust_saturation(x, 1.2),
        lambda x: TF.adjust_hue(x, 1 / 3),
    ]
    for i in range(6):
        expected = images[i]
        for which in orders[i]:
            expected = operations[which](expected)
        assert torch.allclose(ours[i], expected, atol=1e-4), i


def test_values_stay_in_range_when_clipped():
    images = smooth_images()
    bright = apply(images, replace(identity(6), brightness=torch.full((6,), 1.8)), 32)
    assert torch.allclose(bright, TF.adjust_brightness(images, 1.8), atol=1e-5)
    assert bright.max() == 1


def test_colour_comes_before_blur():
    """As in the paper: contrast is about the mean before the edges are mirrored into it."""
    images = smooth_images()
    p = replace(identity(6), contrast=torch.full((6,), 0.3), sigma=torch.full((6,), 2.0))
    expected = TF.gaussian_blur(TF.adjust_contrast(images, 0.3), [3, 3], [2.0, 2.0])
    assert torch.allclose(apply(images, p, 32), expected, atol=1e-5)


def test_blur_with_and_without_its_zero_taps_is_the_same():
    kernels = blur_kernels(torch.tensor([0.0, 0.3, 2.0, 0.0]), 24)
    taps = view_taps._blur_taps(kernels, 24)
    short = taps.without_zeros()
    assert len(short.rows) < taps.rows.numel()
    x = torch.rand(4, 24, 30)
    ours, theirs = view_taps._sum_rows(x, short), view_taps._sum_rows(x, taps)
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.equal(ours[0], x[0])
    assert not torch.allclose(ours[1], x[1])


def test_a_view_does_not_depend_on_its_batch():
    """The same view on one process and two, and after a restart: parameters are functions of the image."""
    images = (smooth_images(8) * 255).to(torch.uint8)
    rows = torch.tensor([4, 99, 7, 1_000_000, 3, 12, 50, 0])
    augmentation = Augmentation(view_size=24)
    whole = views(images, rows, augmentation, seed=1, epoch=5)
    first = views(images[:3], rows[:3], augmentation, seed=1, epoch=5)
    second = views(images[3:], rows[3:], augmentation, seed=1, epoch=5)
    assert torch.equal(whole, torch.cat([first[:3], second[:5], first[3:], second[5:]]))
    drawn, again = (draw(augmentation, 32, 1, 5, rows, 1) for _ in range(2))
    assert all(torch.equal(getattr(drawn, f), getattr(again, f)) for f in vars(drawn))
    other = one_view(images, rows, augmentation, seed=1, epoch=5, view=1)
    assert torch.equal(whole[8:], other)


@pytest.mark.parametrize("images_in_a_chunk", [1, 3, 5])
def test_a_view_does_not_depend_on_its_chunk(monkeypatch, images_in_a_chunk):
    images, rows = (smooth_images(8) * 255).to(torch.uint8), torch.arange(8)
    whole = views(images, rows, Augmentation(view_size=24), seed=1, epoch=5)
    monkeypatch.setattr(view_taps, "_chunk", lambda images, view_size: images_in_a_chunk)
    assert torch.equal(views(images, rows, Augmentation(view_size=24), seed=1, epoch=5), whole)


def test_views_come_normalised_in_channels_last():
    images, rows = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8)
    augmentation, mean, std = Augmentation(view_size=24), (0.5, 0.4, 0.3), (0.25, 0.26, 0.27)
    plain = views(images, rows, augmentation, seed=0, epoch=0)
    assert plain.min() >= 0
    assert plain.max() <= 1
    assert plain.is_contiguous(memory_format=torch.channels_last)
    normalised = views(images, rows, augmentation, seed=0, epoch=0, mean=mean, std=std)
    assert torch.allclose(normalised, normalise(plain, mean, std), atol=2e-5)


def test_views_differ_between_views_epochs_seeds_and_images():
    images = (smooth_images(1) * 255).to(torch.uint8).repeat(2, 1, 1, 1)
    rows = torch.arange(2)
    a = Augmentation(view_size=32)
    base = views(images, rows, a, seed=0, epoch=0)
    assert not torch.allclose(base[0], base[1])  # two images
    assert not torch.allclose(base[0], base[2])  # two views of one
    for other in (views(images, rows, a, seed=1, epoch=0), views(images, rows, a, seed=0, epoch=1)):
        assert not torch.allclose(base, other)


def test_crop_statistics_match_torchvision():
    n, size = 20_000, 96
    p = draw(Augmentation(view_size=96), size, 0, 0, torch.arange(n), 0)
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(96)
    reference = [crop.make_params([torch.empty(3, size, size)]) for _ in range(n)]
    for name in ("top", "left", "height", "width"):
        ours = getattr(p, name).float()
        theirs = torch.tensor([float(r[name]) for r in reference])
        error = math.sqrt((ours.var() + theirs.var()) / n)
        assert abs(ours.mean() - theirs.mean()) < 4 * error, name
        assert abs(ours.std() / theirs.std() - 1) < 0.03, name


def test_probabilities_and_ranges_of_many_draws():
    n = 50_000
    a = Augmentation(view_size=96)
    p = draw(a, 96, 3, 2, torch.arange(n), 1)

    def near(measured, expected):
        return abs(float(measured) - expected) < 4 * 0.5 / math.sqrt(n)

    assert near(p.flip.float().mean(), 0.5)
    assert near(p.grayscale.float().mean(), 0.2)
    assert near((p.sigma > 0).float().mean(), 0.5)
    assert near((p.brightness != 1).float().mean(), 0.8)
    jittered = p.brightness != 1
    for factor in (p.brightness, p.contrast, p.saturation):
        chosen = factor[jittered]
        assert chosen.min() >= 0.2
        assert chosen.max() <= 1.8
        assert abs(chosen.mean() - 1) < 0.01
        assert abs(chosen.std() - 1.6 / math.sqrt(12)) < 0.01
    assert abs(p.hue[jittered].std() - 0.4 / math.sqrt(12)) < 0.003
    sigma = p.sigma[p.sigma > 0]
    assert abs(sigma.mean() - 1.05) < 0.02
    assert abs(sigma.std() - 1.9 / math.sqrt(12)) < 0.02
    pairs = p.order[:, 0] * 4 + p.order[:, 1]
    counts = torch.bincount(pairs, minlength=16).view(4, 4)
    assert counts.diagonal().sum() == 0
    assert all(abs(int(c) / n - 1 / 12) < 0.006 for c in counts[~torch.eye(4, dtype=torch.bool)])
    # Factors are drawn apart from each other.
    stacked = torch.stack([p.brightness, p.contrast, p.saturation, p.hue])[:, jittered]
    correlation = torch.corrcoef(stacked) - torch.eye(4)
    assert correlation.abs().max() < 0.02


@pytest.mark.slow
def test_pixel_statistics_match_torchvision_transforms():
    """Mean and spread of augmented pixels over many draws of one image, against the v2 pipeline on floats."""
    image = smooth_images(1)[0]
    n = 3000
    a = Augmentation(view_size=32, blur=0.5)
    ours = views((image * 255).round().to(torch.uint8).repeat(n, 1, 1, 1), torch.arange(n), a, seed=0, epoch=0, count=1)
    pipeline = v2.Compose(
        [
            v2.RandomResizedCrop(32, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(3, (0.1, 2.0))], p=0.5),
        ]
    )
    torch.manual_seed(0)
    theirs = torch.stack([pipeline(image) for _ in range(n)])
    assert (ours.mean(dim=0) - theirs.mean(dim=0)).abs().max() < 0.03
    assert (ours.std(dim=0) / theirs.std(dim=0) - 1).abs().max() < 0.12
    assert abs(ours.mean() - theirs.mean()) < 0.01


def test_uniforms_are_uniform_and_fresh():
    u = uniforms(7, 3, torch.arange(4096), 1, count=16)
    assert u.shape == (4096, 16)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.var() - 1 / 12) < 0.002
    assert u.unique().numel() > 0.99 * u.numel()


def test_bits_are_the_same_for_keys_as_numbers_and_as_tensors():
    """Python mixes numbers, torch tensors; as a tensor a recorded CUDA graph can find the epoch changed."""
    keys = [(0, 0, 5), (3, 7, 2**40), (-1, 2**62, 0)]
    for seed, epoch, row in keys:
        expected = random_bits(seed, epoch, row)
        tensors = [torch.tensor(key) for key in (seed, epoch, row)]
        assert torch.equal(random_bits(*tensors), expected)
        assert torch.equal(random_bits(seed, tensors[1], tensors[2]), expected)
        assert torch.equal(random_bits(seed, epoch, tensors[2][None]), expected[None])
    # SplitMix64's first two outputs of the seed 0, as its authors' program gives them.
    assert int(random_bits(0)) % 2**64 == 0xE220A8397B1DCDAF
    assert int(random_bits(0x9E3779B97F4A7C15 - 2**64)) % 2**64 == 0x6E789E6AA1B965F4


def test_an_epoch_as_a_tensor_draws_the_same():
    augmentation, rows = Augmentation(view_size=24), torch.arange(40)
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    plain = views(images, rows, augmentation, seed=3, epoch=11)
    assert torch.equal(views(images, rows, augmentation, seed=3, epoch=torch.tensor(11)), plain)
    # Views drawn together, and each by itself.
    drawn = draw(augmentation, 32, 3, torch.tensor(11), rows, torch.arange(2)[:, None])
    for number in range(2):
        alone = draw(augmentation, 32, 3, 11, rows, number)
        assert all(torch.equal(getattr(drawn, f)[40 * number :][:40], getattr(alone, f)) for f in vars(alone))


def test_epoch_order_is_a_fresh_permutation():
    first, second = epoch_order(0, 0, 1000), epoch_order(0, 1, 1000)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert torch.equal(first, epoch_order(0, 0, 1000))
    assert (first == second).float().mean() < 0.02


def test_normalise():
    images = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    out = normalise(images, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    assert torch.allclose(out[0, :, 0, 0], torch.tensor([1.0, 3.0, 0.5]))


def test_views_are_the_same_under_autocast():
    images, rows = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8), torch.arange(4)
    plain = views(images, rows, Augmentation(view_size=12), seed=0, epoch=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(views(images, rows, Augmentation(view_size=12), seed=0, epoch=0), plain)


@pytest.mark.parametrize(
    ("images", "indices", "wrong"),
    [
        (torch.zeros(2, 3, 8, 8), torch.arange(2), "images must be N×3×H×H uint8, got (2, 3, 8, 8) torch.float32"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.arange(2), "got (2, 1, 8, 8)"),
        (torch.zeros(2, 3, 8, 9, dtype=torch.uint8), torch.arange(2), "got (2, 3, 8, 9)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), torch.arange(2), "got (3, 8, 8)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(3), "indices must be (2,) int64"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2), "got (2,) torch.float32"),
    ],
)
def test_other_shapes_and_types_are_refused(images: torch.Tensor, indices: torch.Tensor, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        views(images, indices, Augmentation(8), seed=0, epoch=0)

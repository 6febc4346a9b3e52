"""Backbones: stems that fit the images, timm's key names, and frozen means frozen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from twoviews.errors import SettingsError
from twoviews.model.projection_head import SimCLR, projection_head
from twoviews.model.resnet50 import (
    Classifier,
    count_parameters,
    create_backbone,
    feature_width,
    freeze,
    require_size,
    resolve_stem,
)


def sizes(backbone: nn.Module, image_size: int) -> dict[str, tuple[int, ...]]:
    """What comes out of the stem, the first stage, and the whole, for images of this size."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        return lambda module, inputs, output: shapes.__setitem__(name, tuple(output.shape))

    for name in ("conv1", "maxpool", "layer1", "layer4"):
        getattr(backbone, name).register_forward_hook(note(name))
    with torch.inference_mode():
        shapes["features"] = tuple(backbone.eval()(torch.zeros(1, 3, image_size, image_size)).shape)
    return shapes


@pytest.mark.parametrize(
    ("stem", "conv1", "pooled"),
    [("original", (1, 64, 16, 16), 8), ("small-pool", (1, 64, 32, 32), 16), ("small", (1, 64, 32, 32), 32)],
)
def test_resnet50_s_stems(stem: Any, conv1: tuple[int, ...], pooled: int) -> None:
    backbone = create_backbone("resnet50", stem)
    shapes = sizes(backbone, 32)
    assert shapes["conv1"] == conv1
    assert shapes["maxpool"] == (1, 64, pooled, pooled)
    assert shapes["layer1"] == (1, 256, pooled, pooled)
    assert shapes["layer4"] == (1, 2048, pooled // 8, pooled // 8)
    assert shapes["features"] == (1, 2048)
    assert feature_width(backbone) == 2048
    assert isinstance(backbone.maxpool, nn.Identity) == (stem == "small")
    convolution = backbone.conv1
    assert isinstance(convolution, nn.Conv2d)
    assert (convolution.kernel_size, convolution.stride) == (
        ((7, 7), (2, 2)) if stem == "original" else ((3, 3), (1, 1))
    )


@pytest.mark.parametrize("name", ["resnet50", "resnet18_w16"])
@pytest.mark.parametrize("stem", ["original", "small"])
def test_weights_carry_timm_s_names(name: str, stem: Any) -> None:
    backbone = create_backbone(name, stem)
    theirs = timm.create_model(name, num_classes=0)
    assert list(backbone.state_dict()) == list(theirs.state_dict())
    if stem == "small":  # as the README tells others to do
        theirs.conv1 = nn.Conv2d(3, backbone.conv1.out_channels, 3, 1, 1, bias=False)  # type: ignore[union-attr]
        theirs.maxpool = nn.Identity()
    theirs.load_state_dict(backbone.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(theirs.eval()(images), backbone.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize(("size", "stem"), [(32, "small"), (40, "small"), (41, "original"), (96, "original")])
def test_the_stem_goes_by_the_image_size(size: int, stem: str) -> None:
    before = torch.get_rng_state()
    assert resolve_stem("auto", size, "resnet18") == stem
    assert resolve_stem("auto", size, "mobilenetv3_small_050") == "original"
    assert torch.equal(torch.get_rng_state(), before)  # the weights that follow are the seed's
    for named in ("small", "small-pool", "original"):
        assert resolve_stem(named, size, "resnet18") == named


def test_the_small_nets_are_as_small_as_they_say() -> None:
    w16, w32 = create_backbone("resnet18_w16", "small"), create_backbone("resnet18_w32", "small")
    assert count_parameters(w16) == pytest.approx(0.70e6, rel=0.02)
    assert count_parameters(w32) == pytest.approx(2.8e6, rel=0.02)
    assert (feature_width(w16), feature_width(w32)) == (128, 256)
    assert sizes(w16, 32)["layer1"] == (1, 16, 32, 32)


@pytest.mark.parametrize("layers", [2, 3])
def test_the_projection_head_s_layers(layers: int) -> None:
    head = projection_head(20, 30, 8, layers)
    kinds = [type(m).__name__ for m in head]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * (layers - 1) + ["Linear", "BatchNorm1d"]
    linear = [m for m in head if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(20, 30), *[(30, 30)] * (layers - 2), (30, 8)]
    assert all(m.bias is None for m in linear)  # BatchNorm has one
    assert [m.num_features for m in head if isinstance(m, nn.BatchNorm1d)] == [30] * (layers - 1) + [8]
    assert head(torch.randn(4, 20)).shape == (4, 8)


def test_a_projection_head_of_one_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or 3 layers"):
        projection_head(20, 30, 8, 1)


def test_simclr_projects_features() -> None:
    model = SimCLR(create_backbone("resnet18_w16", "small"), hidden=32, width_out=16)
    views = torch.randn(4, 3, 16, 16)
    assert model(views).shape == (4, 16)
    model.eval()
    torch.testing.assert_close(model(views), model.projection_head(model.backbone(views)))


def state(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_backbone_is_left_alone_to_the_bit(frozen: bool) -> None:
    torch.manual_seed(0)
    classifier = Classifier(create_backbone("resnet18_w16", "small"), classes=3)
    if frozen:
        freeze(classifier.backbone)
    optimizer = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], lr=0.5, weight_decay=0.1)
    before, head_before = state(classifier.backbone), state(classifier.head)
    for _ in range(2):
        classifier.train()  # a training loop says so at every epoch
        loss = nn.functional.cross_entropy(classifier(torch.randn(8, 3, 16, 16)), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not same(head_before, state(classifier.head))
    assert same(before, state(classifier.backbone)) == frozen
    # Without freezing even the buffers move: what is compared above can change.
    mean = "bn1.running_mean"
    assert torch.equal(before[mean], classifier.backbone.state_dict()[mean]) == frozen


def test_a_copy_of_a_frozen_backbone_is_frozen_too() -> None:
    classifier = Classifier(create_backbone("resnet18_w16", "small"), classes=3)
    freeze(classifier.backbone)
    twin = copy.deepcopy(classifier)
    twin.train()
    assert not twin.backbone.training
    assert not any(m.training for m in twin.backbone.modules())


def test_a_classifier_starts_with_equal_chances() -> None:
    classifier = Classifier(create_backbone("resnet18_w16", "small"), classes=5)
    assert torch.equal(classifier(torch.randn(3, 3, 16, 16)), torch.zeros(3, 5))


@pytest.mark.parametrize("name", ["resnet18_w16", "test_vit", "test_mambaout", "mobilenetv3_small_050"])
def test_features_are_as_wide_as_it_is_said(name: str) -> None:
    """timm's ``num_features`` is not, where a last layer follows the pooling."""
    backbone = create_backbone(name)
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, feature_width(backbone))


def test_images_of_a_size_that_it_does_not_take_are_refused_in_one_line() -> None:
    name = "vit_tiny_patch16_224"
    with pytest.raises(
        SettingsError, match=rf"^--backbone {name} does not take images of 32 pixels \(.+224.+\): "
    ) as e:
        require_size(create_backbone(name), name, 32)
    assert "\n" not in str(e.value)


def test_to_look_at_the_size_changes_nothing() -> None:
    backbone = create_backbone("resnet18_w16", "small").train()
    freeze(backbone.layer1)  # type: ignore[arg-type]
    before, modes, numbers = state(backbone), [m.training for m in backbone.modules()], torch.get_rng_state()
    require_size(backbone, "resnet18_w16", 32)
    assert same(before, state(backbone))
    assert modes == [m.training for m in backbone.modules()]
    assert torch.equal(numbers, torch.get_rng_state())


def test_features_that_are_not_one_row_an_image_are_refused() -> None:
    net = nn.Conv2d(3, 8, 3)
    net.num_features = 8  # type: ignore[assignment]
    with pytest.raises(SettingsError, match=r"my_net gives features of shape \(1, 8, 30, 30\), not \(1, 8\)"):
        require_size(net, "my_net", 32)


def test_an_unknown_name_is_refused_with_a_hint() -> None:
    with pytest.raises(SettingsError, match=r"--backbone resnet5O: .* did you mean .*resnet50"):
        create_backbone("resnet5O")
    with pytest.raises(SettingsError, match=r"timm\.list_models\(\)"):
        create_backbone("no such thing at all")


def test_a_stem_that_the_architecture_lacks_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"vit_tiny_patch16_224 has no ResNet stem to swap; use --stem original"):
        create_backbone("vit_tiny_patch16_224", "small")

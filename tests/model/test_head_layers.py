"""Fine-tuning from within the projection head: the layers that are kept, their file, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from twoviews.errors import CheckpointError
from twoviews.model.projection_head import SimCLR, first_layers, layout, projection_head, stacked_layers
from twoviews.model.resnet50 import Classifier, create_backbone
from twoviews.settings import FinetuneCommand
from twoviews.stages import classify
from twoviews.stages.models import about_head, classifier_tensors, load_backbone, load_classifier, load_head_layers
from twoviews.trainers.weights import load_backbone_weights, read_weights, save_weights

NAMES = ("ant", "bee", "cat")
ABOUT = {"model": "resnet18_w16", "stem": "small", "image_size": 16, "mean": [0.5] * 3, "std": [0.3] * 3}
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def shaken(module: nn.Module, seed: int = 0) -> Any:
    """Weights and statistics that no fresh module has."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise + 0.5 if "running_var" in name else 0.2 * (noise - 0.4))
    return module.eval()


def pretrained(folder: Path, layers: int = 3) -> SimCLR:
    """A pretraining run's weights files, as its stage leaves them."""
    model: SimCLR = shaken(SimCLR(create_backbone("resnet18_w16", "small"), 24, 8, layers))
    save_weights(folder / "models/backbone.safetensors", model.backbone.state_dict(), ABOUT)
    about = {**ABOUT, "layers": layers, "hidden": 24, "width": 8, "temperature": 0.2}
    save_weights(folder / "models/projection_head.safetensors", model.projection_head.state_dict(), about)
    return model


@pytest.mark.parametrize(("layers", "kept"), [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
def test_the_first_layers_of_a_head(layers: int, kept: int) -> None:
    head = shaken(projection_head(20, 24, 8, layers))
    first = first_layers(head, kept)
    kinds = [type(m).__name__ for m in first]
    assert kinds == (["Linear", "BatchNorm1d", "ReLU"] * kept)[: len(head)]
    x = torch.randn(5, 20)
    expected = x
    for module in head[: len(first)]:
        expected = module(expected)
    torch.testing.assert_close(first(x), expected, rtol=0, atol=0)
    again = stacked_layers(20, **layout(first))
    again.load_state_dict(first.state_dict())
    torch.testing.assert_close(again.eval()(x), expected, rtol=0, atol=0)


def test_more_layers_than_there_are_can_not_be_kept() -> None:
    for layers in (0, 3):
        with pytest.raises(ValueError, match="has 2 layers, so 1 to 2 can be kept"):
            first_layers(projection_head(20, 24, 8), layers)


def test_a_classifier_on_kept_layers() -> None:
    kept = shaken(projection_head(128, 24, 8))[:3]
    classifier = Classifier(create_backbone("resnet18_w16", "small"), 5, kept)
    assert isinstance(classifier.head, nn.Sequential)
    assert torch.equal(classifier(IMAGES), torch.zeros(4, 5))
    shaken(classifier)
    features = classifier.backbone(IMAGES)
    expected = classifier.head[1](kept(features))
    torch.testing.assert_close(classifier(IMAGES), expected, rtol=0, atol=0)
    # From the features on, the head is all there is: what the test stage computes.
    torch.testing.assert_close(classifier.head(features), expected, rtol=0, atol=0)


def saved(classifier: Classifier, file: Path) -> dict[str, Tensor]:
    save_weights(file, classifier_tensors(classifier), {**ABOUT, "class_names": NAMES, **about_head(classifier)})
    return read_weights(file)[0]


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_the_file_brings_back_the_classifier(layers: int, tmp_path: Path) -> None:
    backbone = create_backbone("resnet18_w16", "small")
    kept = first_layers(projection_head(128, 128, 128, 3), layers) if layers else None
    classifier: Classifier = shaken(Classifier(backbone, len(NAMES), kept))
    tensors = saved(classifier, tmp_path / "classifier.safetensors")
    loaded, about = load_classifier(tmp_path / "classifier.safetensors", NAMES)
    torch.testing.assert_close(loaded(IMAGES), classifier(IMAGES), rtol=0, atol=0)
    # A file with kept layers has no fc.weight: who knows of none (widths fit here) refuses it and drops no layers.
    assert ("fc.weight" in tensors) == ("head_layers" not in about) == (layers == 0)
    # As a backbone it is one like any other.
    fresh = create_backbone("resnet18_w16", "small")
    assert load_backbone_weights(fresh, tensors, "it").unused == 0
    torch.testing.assert_close(fresh.eval()(IMAGES), backbone(IMAGES), rtol=0, atol=0)


def test_a_head_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    classifier = Classifier(create_backbone("resnet18_w16", "small"), 3, projection_head(128, 24, 8)[:3])
    tensors = classifier_tensors(classifier)
    del tensors["fc.projection.1.weight"]
    file = tmp_path / "classifier.safetensors"
    save_weights(file, tensors, {**ABOUT, "class_names": NAMES, **about_head(classifier)})
    with pytest.raises(CheckpointError, match=r"its head does not fit 3 classes; name a run"):
        load_classifier(file)


@pytest.mark.parametrize("layers", [1, 2])
def test_fine_tuning_starts_from_the_pretrained_layers(layers: int, tmp_path: Path) -> None:
    model = pretrained(tmp_path)
    file = tmp_path / "models/backbone.safetensors"
    kept = load_head_layers(str(file), load_backbone(file), layers)
    features = model.backbone(IMAGES)
    torch.testing.assert_close(kept.eval()(features), model.projection_head[: 3 * layers](features), rtol=0, atol=0)


def test_what_has_no_such_head_is_refused_in_a_line(tmp_path: Path) -> None:
    pretrained(tmp_path, layers=2)
    file = tmp_path / "models/backbone.safetensors"
    backbone = load_backbone(file)
    with pytest.raises(
        CheckpointError, match=r"^--head-layers 1: timm's weights have no projection head; leave it out"
    ):
        load_head_layers("timm", backbone, 1)
    with pytest.raises(
        CheckpointError, match=r"^--head-layers 3: the projection head has 2 layers, .*safetensors\)\.$"
    ):
        load_head_layers(str(file), backbone, 3)
    other = create_backbone("resnet18_w32", "small")
    with pytest.raises(CheckpointError, match=r"is not the projection head of this backbone \(256 features\)"):
        load_head_layers(str(file), other, 1)
    (tmp_path / "models/projection_head.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"no projection_head\.safetensors beside .*backbone\.safetensors; name a"
    ):
        load_head_layers(str(file), backbone, 1)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_command_builds_it(frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pretrained(tmp_path)
    # What finetune_task hands on; of the data it reads the classes and the size alone.
    monkeypatch.setattr(classify, "classifier_task", lambda name, settings, shared, classifier, **more: classifier)
    shared: Any = SimpleNamespace(require_labels=lambda: None, image_size=16, splits=SimpleNamespace(class_names=NAMES))
    settings = FinetuneCommand(run=tmp_path, head_layers=1, freeze_backbone=frozen, backbone="resnet18_w16")
    classifier: Any = classify.finetune_task(settings, shared)
    assert torch.equal(classifier.head[0][0].weight, model.projection_head[0].weight)
    assert torch.equal(classifier.backbone.conv1.weight, model.backbone.conv1.weight)  # type: ignore[union-attr]
    trained = {name for name, p in classifier.named_parameters() if p.requires_grad}
    assert (trained == {"head.linear.weight", "head.linear.bias"}) == frozen
    classifier.train()
    assert classifier.head[0][1].training != frozen
    plain: Any = classify.finetune_task(settings.model_copy(update={"head_layers": 0}), shared)
    assert isinstance(plain.head, nn.Linear)

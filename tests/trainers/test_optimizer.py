"""Learning rate and parameter groups: what the schedule is called is what it is."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from small_tasks import engine
from torch import nn

from twoviews.model.projection_head import SimCLR, projection_head
from twoviews.model.resnet50 import Classifier, create_backbone, freeze
from twoviews.settings import TrainingSettings
from twoviews.trainers.optimizer import build_optimizer, lr_at, parameter_groups, peak_lr, set_lr


def curve(steps: int, warmup_steps: int, peak: float) -> list[float]:
    return [lr_at(step, steps=steps, warmup_steps=warmup_steps, peak=peak) for step in range(steps)]


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    lr = curve(100, 10, 0.8)
    assert lr[:10] == pytest.approx([0.08 * (i + 1) for i in range(10)])
    assert lr[10] == pytest.approx(0.8)
    assert max(lr) == pytest.approx(0.8)


def test_the_cosine_falls_to_nearly_nothing_and_no_further() -> None:
    lr = curve(1000, 100, 0.5)
    after = lr[100:]
    assert all(a > b for a, b in itertools.pairwise(after))
    assert after[450] == pytest.approx(0.25)  # half way
    assert after[225] == pytest.approx(0.25 * (1 + math.cos(math.pi / 4)))
    assert 0 < after[-1] < 0.5 * 1e-4
    assert lr_at(1000, steps=1000, warmup_steps=100, peak=0.5) == pytest.approx(0, abs=1e-12)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert lr_at(0, steps=7, warmup_steps=0, peak=0.3) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("scaling", "batch", "expected"),
    [("linear", 512, 0.6), ("linear", 64, 0.075), ("sqrt", 1024, 0.6), ("sqrt", 64, 0.15), ("none", 4096, 0.3)],
)
def test_scaling_with_the_batch(scaling: Any, batch: int, expected: float) -> None:
    assert peak_lr(TrainingSettings(base_lr=0.3, lr_scaling=scaling), batch) == pytest.approx(expected)


def model() -> SimCLR:
    return SimCLR(create_backbone("resnet18_w16", "small"), hidden=16, width_out=8)


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_parameter_is_in_one_group_with_the_decay_it_should_have(scale: float, decay_all: bool) -> None:
    module = model()
    owner = {
        id(p): (isinstance(m, nn.modules.batchnorm._BatchNorm), n)
        for m in module.modules()
        for n, p in m.named_parameters(recurse=False)
    }
    groups = parameter_groups(module, 0.01, backbone_lr_scale=scale, decay_all=decay_all)
    grouped = [id(p) for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(owner)
    backbone = {id(p) for p in module.backbone.parameters()}
    for group in groups:
        assert group["params"]
        for p in group["params"]:
            in_batchnorm, name = owner[id(p)]
            spared = not decay_all and (in_batchnorm or name == "bias")
            assert group["weight_decay"] == (0.0 if spared else 0.01)
            assert group["lr_scale"] == (scale if id(p) in backbone else 1.0)


@pytest.mark.parametrize("decay_all", [False, True])
def test_the_setting_reaches_the_bias(decay_all: bool) -> None:
    module = nn.Linear(3, 2)
    start = module.bias.detach().clone()
    optimizer = build_optimizer(module, TrainingSettings(momentum=0.0, weight_decay=0.1, decay_all=decay_all))
    set_lr(optimizer, 0.5)
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(module.bias.detach(), start * (0.95 if decay_all else 1.0))


def test_layers_of_the_projection_head_count_as_pretrained() -> None:
    classifier = Classifier(create_backbone("resnet18_w16", "small"), 3, projection_head(128, 16, 8)[:3])
    assert isinstance(classifier.head, nn.Sequential)
    pretrained = {id(p) for part in (classifier.backbone, classifier.head[0]) for p in part.parameters()}
    groups = parameter_groups(classifier, 0.01, 0.1)
    assert {g["lr_scale"] for g in groups} == {0.1, 1.0}
    for group in groups:
        assert all((id(p) in pretrained) == (group["lr_scale"] == 0.1) for p in group["params"])


def test_frozen_parameters_are_left_out() -> None:
    classifier = Classifier(create_backbone("resnet18_w16", "small"), 3)
    freeze(classifier.backbone)
    (decayed, rest) = parameter_groups(classifier, 0.01, 0.1)
    assert [p is classifier.head.weight for p in decayed["params"]] == [True]
    assert [p is classifier.head.bias for p in rest["params"]] == [True]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_the_backbone_takes_its_share_of_the_learning_rate(optimizer: Any) -> None:
    settings = TrainingSettings(optimizer=optimizer, weight_decay=0.0)
    built = build_optimizer(model(), settings, backbone_lr_scale=0.25)
    set_lr(built, 0.8)
    assert {(g["lr_scale"], g["lr"]) for g in built.param_groups} == {(0.25, 0.2), (1.0, 0.8)}


def test_sgd_is_with_nesterov_momentum_and_decay() -> None:
    module = nn.Linear(3, 2)
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    settings = TrainingSettings(momentum=0.9, weight_decay=0.1)
    optimizer = build_optimizer(module, settings)
    set_lr(optimizer, 0.5)
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    gradient = 1 + 0.1 * start["weight"]
    # Sutskever et al. 2013 as torch has it: the first step moves by (1 + momentum) times the gradient.
    torch.testing.assert_close(module.weight.detach(), start["weight"] - 0.5 * 1.9 * gradient)
    torch.testing.assert_close(module.bias.detach(), start["bias"] - 0.5 * 1.9)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_s_norm_is_torch_s_and_clips_as_torch_does(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    gradients = [
        torch.randn(6, 3, 3, 3).to(memory_format=layout),
        torch.randn(5, 7),
        torch.randn(4),
        torch.randn(2, 3).T,
    ]
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    reference = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for p, q, gradient in zip(parameters, reference, gradients, strict=True):
        p.grad, q.grad = gradient.clone(), gradient.clone()
    on, optimizer = engine(), torch.optim.SGD(parameters, lr=1.0)
    norm = on.gradient_norm(optimizer)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(reference, 0.3))
    on.clip(optimizer, norm, 0.3)
    torch.testing.assert_close([p.grad for p in parameters], [q.grad for q in reference])
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    on.clip(optimizer, on.gradient_norm(optimizer), 5.0)  # smaller ones stay
    torch.testing.assert_close([p.grad for p in parameters], before, rtol=0, atol=0)

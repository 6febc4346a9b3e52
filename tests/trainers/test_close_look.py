"""A close look at a step: the first layer, the gradient nearest to the loss, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_tasks import classifier, classifier_settings, engine
from torch import Tensor

from twoviews.trainers.close_look import Findings, Look, Seen
from twoviews.trainers.steps import Batch
from twoviews.trainers.task import Task

POSITIONS = torch.tensor([3, 8, 1, 5])


def batch_of(task: Task, epoch: int = 1) -> Batch:
    return Batch(*task.batches.get(POSITIONS), epoch=epoch, progress=0.5)


def seen(spoil: Callable[[Any], None], step_spoil: Callable[[Any, Tensor], Tensor] | None = None) -> Findings:
    on = engine()
    task = classifier(classifier_settings(), on)
    spoil(task.module)

    def step(module: Any, batch: Batch) -> Any:
        loss, scalars = task.step(module, batch)
        return (loss if step_spoil is None else step_spoil(module, loss)), scalars

    look = Look(step, task.module, on, epoch=1, rows=frozenset(POSITIONS.tolist()))
    with pytest.raises(Seen) as stopped:
        look(task.module, batch_of(task))
    assert not any(child._forward_hooks for child in task.module.modules())
    return stopped.value.found


def test_a_step_that_is_well_shows_nothing() -> None:
    found = seen(lambda module: None)
    assert (found.cause, found.layer, found.gradients, found.state) == (None, None, [], [])
    assert found.norm is not None
    assert 0 < found.norm < 100
    assert dict(found.lines())["first layer"] == "all outputs are finite"


def test_the_first_layer_is_named_with_what_went_in() -> None:
    def spoil(module: Any) -> None:
        with torch.no_grad():
            module.backbone.layer2[0].conv1.weight[0] = float("inf")

    found = seen(spoil)
    assert found.cause == "the loss is nan"
    assert found.where == "first in backbone.layer2.0.conv1"
    assert found.layer is not None
    assert found.layer.weight == float("inf")
    assert 0 < found.layer.bad < found.layer.values  # one channel
    assert "backbone.layer2.0.conv1.weight" in found.state
    assert found.largest == ("backbone.layer2.0.conv1.weight", float("inf"))
    assert found.gradients[0] == "head.bias"  # from the loss on
    assert "first layer" in dict(found.lines())


def test_a_batchnorm_within_a_fused_block_is_named_too() -> None:
    def spoil(module: Any) -> None:
        with torch.no_grad():
            module.backbone.layer2[0].bn1.weight[0] = float("nan")

    assert seen(spoil).where == "first in backbone.layer2.0.bn1"


def test_what_begins_in_the_backward_pass_is_told_apart() -> None:
    def square_root_of_zero(module: Any, loss: Tensor) -> Tensor:
        weight = module.backbone.layer3[0].bn1.weight
        return loss + (weight - weight.detach()).abs().sum().sqrt()

    found = seen(lambda module: None, square_root_of_zero)
    assert found.layer is None
    assert found.gradients == ["backbone.layer3.0.bn1.weight"]
    assert found.where == "in the backward pass, first in backbone.layer3.0.bn1.weight"
    assert found.cause is not None
    assert found.cause.startswith("the gradient's norm is nan (loss ")


def test_statistics_are_looked_at_too() -> None:
    def spoil(module: Any) -> None:
        module.backbone.bn1.running_var[2] = float("nan")

    found = seen(spoil)  # BatchNorm uses the batch's own in training
    assert found.cause == "backbone.bn1.running_var is not finite"
    assert found.where == "in no layer's output"


@pytest.mark.parametrize(("epoch", "rows"), [(0, POSITIONS.tolist()), (1, [0, 2])])
def test_other_batches_are_trained_on(epoch: int, rows: list[int]) -> None:
    on = engine()
    task = classifier(classifier_settings(), on)
    look = Look(task.step, task.module, on, epoch=1, rows=frozenset(rows))
    loss, scalars = look(task.module, batch_of(task, epoch))
    assert float(loss.detach()) == float(scalars["train_loss"])

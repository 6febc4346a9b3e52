"""Chunks: the gradient of the whole batch's loss, whatever the number of chunks."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_tasks import MEAN, SEED, SIZE, STD, engine, images, run_folder, simclr, simclr_settings
from torch import Tensor, nn

from twoviews.dataset.augmentations import Augmentation
from twoviews.dataset.batches import Batches
from twoviews.model.resnet50 import create_backbone
from twoviews.settings import PretrainSettings
from twoviews.stages.tasks import simclr_model, simclr_task
from twoviews.trainers.chunks import ChunkedStep
from twoviews.trainers.steps import Batch, SimCLRStep
from twoviews.trainers.train import train
from twoviews.trainers.validate import Normalisation

IMAGES = 10


def whole_step(decoupled: bool = False) -> SimCLRStep:
    return SimCLRStep(lambda progress: Augmentation(SIZE), Normalisation(MEAN, STD), 0.2, SEED, engine(), decoupled)


def batch() -> Batch:
    fetched = Batches(images(labelled=False), torch.device("cpu")).get(torch.arange(IMAGES))
    return Batch(*fetched, epoch=1, progress=0.5)


def gradients(module: nn.Module, step: object) -> tuple[list[Tensor], dict[str, Tensor]]:
    torch.manual_seed(3)
    loss, scalars = step(module, batch())  # type: ignore[operator]
    loss.backward()
    return [p.grad for p in module.parameters() if p.grad is not None], scalars


def net(norm: type[nn.Module] | None, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    middle: list[nn.Module] = [] if norm is None else [norm(16)]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 16), *middle, nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 8)
    )


@pytest.mark.parametrize("chunk_size", [2, 3, 4, 5, 9, 10, 64])
@pytest.mark.parametrize("decoupled", [False, True], ids=["info_nce", "dcl"])
def test_gradient_is_that_of_the_whole_batch(chunk_size: int, decoupled: bool) -> None:
    module = net(None)
    whole, scalars = gradients(copy.deepcopy(module), whole_step(decoupled))
    chunked, chunked_scalars = gradients(module, ChunkedStep(whole_step(decoupled), chunk_size))
    assert len(whole) == len(chunked) == 4
    for a, b in zip(chunked, whole, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    for key in ("loss", "contrastive_top1"):
        assert torch.allclose(chunked_scalars[key], scalars[key], rtol=1e-6)


def test_decoupled_it_is_another_gradient() -> None:
    (first, *_), scalars = gradients(net(None), whole_step())
    (other, *_), others = gradients(net(None), whole_step(decoupled=True))
    assert float(others["loss"]) < float(scalars["loss"])
    assert not torch.allclose(other, first, rtol=0.1)


@pytest.mark.parametrize("chunk_size", [None, 4])
@pytest.mark.parametrize("loss", ["info_nce", "dcl"])
def test_the_settings_make_the_step(loss: Any, chunk_size: int | None) -> None:
    shared: Any = SimpleNamespace(
        engine=engine(),
        splits=SimpleNamespace(unlabeled=images(labelled=False)),
        normalisation=Normalisation(MEAN, STD),
        image_size=SIZE,
    )
    settings = PretrainSettings(loss=loss, chunk_size=chunk_size, temperature=0.3)
    model = simclr_model(settings, create_backbone("resnet18_w16", "small"))
    step: Any = simclr_task(settings, shared, model, seed=SEED).step
    assert isinstance(step, ChunkedStep) == (chunk_size is not None)
    whole: SimCLRStep = step.whole if chunk_size else step
    assert (whole.decoupled, whole.temperature) == (loss == "dcl", 0.3)


def test_it_is_not_accumulation() -> None:
    module = net(None)
    whole, _ = gradients(copy.deepcopy(module), whole_step())
    accumulated = copy.deepcopy(module)
    for half in torch.arange(IMAGES).chunk(2):
        part = Batch(batch().images[half], batch().rows[half], None, 1, 0.5)
        (whole_step()(accumulated, part)[0] / 2).backward()
    assert not torch.allclose(next(accumulated.parameters()).grad, whole[0], rtol=0.1)  # type: ignore[arg-type]


def test_with_batchnorm_it_is_the_gradient_through_each_chunk_s_statistics() -> None:
    module, step = net(nn.BatchNorm1d), whole_step()
    reference = copy.deepcopy(module)
    halves = [step.project(reference, Batch(*three, None, 1, 0.5)).chunk(2) for three in _thirds(batch())]
    loss, _ = step.contrast(torch.cat([a for a, _ in halves] + [b for _, b in halves]))
    loss.backward()
    chunked, scalars = gradients(module, ChunkedStep(step, 4))
    assert torch.allclose(scalars["loss"], loss.detach())
    for a, p in zip(chunked, reference.parameters(), strict=True):
        assert p.grad is not None
        assert torch.allclose(a, p.grad, rtol=1e-4, atol=1e-6)
    # Each chunk moved the running statistics once, as in the reference.
    for (name, a), (_, b) in zip(module.named_buffers(), reference.named_buffers(), strict=True):
        assert torch.allclose(a.double(), b.double()), name
    assert all(m.track_running_stats for m in module.modules() if isinstance(m, nn.BatchNorm1d))


def test_no_pass_leaves_batchnorm_without_its_statistics() -> None:
    """SyncBatchNorm fails in bf16 where it has none to keep."""
    module = net(nn.BatchNorm1d)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d)]
    tracked: list[bool] = []
    for norm in norms:
        norm.register_forward_pre_hook(lambda m, _: tracked.append(m.track_running_stats))
    gradients(module, ChunkedStep(whole_step(), 4))
    assert len(tracked) == 6 * len(norms)
    assert all(tracked)


def _thirds(full: Batch) -> list[tuple[Tensor, Tensor]]:
    sizes = [4, 3, 3]
    return list(zip(full.images.split(sizes), full.rows.split(sizes), strict=True))


def test_dropout_is_the_same_both_times() -> None:
    seen: list[Tensor] = []
    module = net(None, dropout=0.5)
    module[-1].register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].detach().clone()))
    gradients(module, ChunkedStep(whole_step(), 5))
    first_pass, second_pass = seen[:2], seen[2:]
    for a, b in zip(first_pass, second_pass, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first_pass[0], first_pass[1])


def test_training_in_chunks_learns(tmp_path: Path) -> None:
    on = engine()
    settings = simclr_settings()
    task = simclr(settings, on)
    assert isinstance(task.step, SimCLRStep)
    task.step = ChunkedStep(task.step, 2)
    before = [p.detach().clone() for p in task.module.parameters()]
    train(task, settings, on, run_folder(tmp_path), seed=SEED)
    assert all(torch.isfinite(p).all() for p in task.module.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, task.module.parameters(), strict=True))

"""Several processes are one: the same loss, gradient and statistics as one process on the joined batch."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from processes import run_forked, run_processes, torchrun
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from twoviews.cli import main
from twoviews.dataset.augmentations import Augmentation
from twoviews.dataset.batches import Batches
from twoviews.dataset.images import ImageSet
from twoviews.errors import CheckpointError, NumbersError
from twoviews.loss_functions.info_nce import info_nce
from twoviews.model.batchnorm import JointBatchNorm, join_batchnorm
from twoviews.settings import SupervisedSettings
from twoviews.trainers import train as training
from twoviews.trainers.checkpoint import State, save_checkpoint
from twoviews.trainers.chunks import ChunkedStep
from twoviews.trainers.engine import Engine
from twoviews.trainers.failures import read_failure
from twoviews.trainers.progress import speaks
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.steps import Batch, SimCLRStep
from twoviews.trainers.take_up import take_up
from twoviews.trainers.task import Task
from twoviews.trainers.validate import Normalisation

IMAGES, WIDTH, TEMPERATURE = 8, 5, 0.2
STEPS = 3
JUMP = 14
Step = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]
LOSSES = {"info_nce": False, "dcl": True}  # whether decoupled


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def joined_projections() -> Tensor:
    """2N×D, first views then second views, alike in pairs."""
    return numbers(2 * IMAGES, WIDTH, seed=0) + numbers(IMAGES, WIDTH, seed=1).repeat(2, 1)


def share_of_views(rows: Tensor, engine: Engine) -> Tensor:
    """The two views of this process's images, as its part of the batch has them."""
    return torch.cat([view.chunk(engine.world_size)[engine.rank] for view in rows.chunk(2)])


def bounds(rank: int, world: int, rows: int) -> slice:
    """Shares of different sizes: every process one row more than the one before it."""
    edges = np.cumsum([0, *np.arange(world) + (rows - world * (world - 1) // 2) // world])
    edges[-1] = rows
    return slice(int(edges[rank]), int(edges[rank + 1]))


# What the processes do. ---------------------------------------------------------------------------------------------


def contrast(engine: Engine, decoupled: bool) -> dict[str, Any]:
    mine = share_of_views(joined_projections(), engine).requires_grad_()
    place = {"candidates": engine.gather(mine), "first_row": engine.rank * len(mine)}
    loss, top1 = info_nce(mine, TEMPERATURE, **place, decoupled=decoupled)  # type: ignore[arg-type]
    loss.backward()
    assert mine.grad is not None
    # Every process adds its loss's gradient; averaging over processes is what the wrapped module does to weights.
    return {
        "loss": engine.mean(loss),
        "top1": engine.mean(top1),
        "gradient": mine.grad / engine.world_size,
        "own_loss": loss.detach(),
    }


def network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Linear(6, 7, bias=False), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, WIDTH, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm1d(WIDTH)).to(dtype)


def train(engine: Engine) -> dict[str, Any]:
    """Steps of a small SimCLR through the engine's own wrapping: its gradients, weights and statistics."""
    module = engine.join_processes(network(torch.float32))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    wrapped, stepper = engine.setup(module, optimizer)
    losses, gradients = [], {}
    for step in range(STEPS):
        z = wrapped(share_of_views(numbers(2 * IMAGES, 6, seed=step).float(), engine))
        candidates = engine.gather(z) if engine.world_size > 1 else None
        loss, _ = info_nce(z, TEMPERATURE, candidates=candidates, first_row=engine.rank * len(z))
        stepper.zero_grad()
        engine.backward(loss)
        stepper.step()
        losses.append(engine.mean(loss.detach()))
        gradients |= {f"{step}.{name}": p.grad.clone() for name, p in module.named_parameters()}
    return {"losses": torch.stack(losses), "gradients": gradients, "state": dict(module.state_dict())}


def simclr_gradient(engine: Engine, chunk_size: int | None) -> dict[str, Any]:
    """Gradient of SimCLR's loss on this process's images, in chunks or whole."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 7), nn.Tanh(), nn.Linear(7, WIDTH))
    wrapped, _ = engine.setup(net, torch.optim.SGD(net.parameters(), lr=0.1))
    whole = SimCLRStep(lambda _: Augmentation(8), Normalisation((0.5,) * 3, (0.3,) * 3), TEMPERATURE, 5, engine)
    step = ChunkedStep(whole, chunk_size) if chunk_size else whole
    pixels = torch.randint(0, 256, (IMAGES, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    rows = torch.arange(IMAGES).chunk(engine.world_size)[engine.rank]
    loss, _ = step(wrapped, Batch(pixels[rows], rows, None, 0, 1.0))
    engine.backward(loss)
    return {name: p.grad for name, p in net.named_parameters()}


def normalise(engine: Engine) -> dict[str, Any]:
    """BatchNorm of vectors and of images, in training on shares of different sizes, then in evaluation."""
    found = {}
    for kind, x in batchnorm_inputs().items():
        module = engine.join_processes(nn.Sequential(batchnorm(kind)))
        assert isinstance(module[0], JointBatchNorm)
        found[kind] = through_batchnorm(module, [part[bounds(engine.rank, engine.world_size, len(part))] for part in x])
    return found


def agree(engine: Engine) -> dict[str, Any]:
    first = engine.is_first
    return {"any": engine.any(first, False, not first, True), "mean": engine.mean(torch.tensor(float(engine.rank)))}


@contextmanager
def trained_together(
    module: nn.Module, step: Step, settings: SupervisedSettings, engine: Engine, name: str
) -> Iterator[tuple[Path, NumbersError | None]]:
    """Training on 48 images in a folder of all processes, and what ended it; the folder goes once all are done."""
    pixels = torch.randint(0, 256, (48, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    images = ImageSet.whole(pixels.numpy(), None, [f"{i}.png" for i in range(len(pixels))])
    task = Task("supervised", module, Batches(images, engine.device), step, lambda epoch: {})
    folder = Path(tempfile.gettempdir()) / f"twoviews-{name}-{os.environ['MASTER_PORT']}"
    folder.mkdir(exist_ok=True)
    ended: NumbersError | None = None
    try:
        training.train(task, settings, engine, RunFolder(folder, writes=engine.is_first), seed=5)
    except NumbersError as error:
        ended = error
    engine.barrier()
    try:
        yield folder, ended
    finally:
        engine.barrier()
        shutil.rmtree(folder, ignore_errors=True)


def stop_together(engine: Engine, spoilt: str) -> dict[str, Any]:
    """Training in which the last process alone has numbers that are not finite, at step 3."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    calls = 0

    def step(wrapped: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal calls
        calls += 1
        loss = wrapped(batch.images / 255).square().mean()
        bad = calls == 4 and engine.rank == engine.world_size - 1
        if bad and spoilt == "gradient":
            loss = loss + (module[1].bias - module[1].bias.detach()).abs().sum().sqrt()
        # A loss that is infinite and whose gradient is not: no other process can tell.
        return loss, {"loss": loss.detach() + (math.inf if bad and spoilt == "loss" else 0)}

    settings = SupervisedSettings(epochs=2, batch_size=16, optimizer="adamw", checkpoint_minutes=1e-9)
    with trained_together(module, step, settings, engine, spoilt) as (folder, error):
        if error is None:
            return {}
        return {"said": str(error), "speaks": not error.of_all or speaks(), "failure": vars(read_failure(folder))}


def go_back_together(engine: Engine) -> dict[str, Any]:
    """Training in which the loss of the last process alone jumps, once, at step ``JUMP``."""
    torch.manual_seed(7)
    module = engine.join_processes(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)))
    calls = 0

    def step(wrapped: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal calls
        calls += 1
        loss = (wrapped(batch.images / 255) - batch.rows[:, None] / 48).square().mean()
        return loss, {
            "loss": loss.detach() + (1000 if calls == JUMP + 1 and engine.rank + 1 == engine.world_size else 0)
        }

    settings = SupervisedSettings(epochs=8, batch_size=16, on_spike="rollback")
    with trained_together(module, step, settings, engine, "jump") as (folder, error):
        assert error is None
        (last,) = (folder / "checkpoints").glob("step-00000024")
        state = json.loads((last / "state.json").read_text())
    return {"calls": calls, "left_out": state["left_out"], "weights": dict(module.state_dict())}


def folders_of_their_own(engine: Engine) -> dict[str, Any]:
    """What a training says in which each process sees the checkpoints of another folder."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder), writes=True)
        save_checkpoint(run.checkpoints, module, optimizer, State(step=3 + engine.rank))
        task = Task("pretrain", module, None, None, lambda epoch: {})  # type: ignore[arg-type]
        try:
            take_up(task, optimizer, engine, run)
        except CheckpointError as error:
            return {"said": str(error)}
    return {}


def everything(engine: Engine) -> dict[str, Any]:
    return {
        "contrast": {name: contrast(engine, decoupled) for name, decoupled in LOSSES.items()},
        "train": train(engine),
        "chunks": simclr_gradient(engine, chunk_size=1),
        "normalise": normalise(engine),
        "agree": agree(engine),
        "jump": go_back_together(engine),
        "apart": folders_of_their_own(engine),
        "stop": {spoilt: stop_together(engine, spoilt) for spoilt in ("loss", "gradient")},
    }


def batchnorm(kind: str) -> nn.Module:
    made: nn.Module
    made = {"vectors": nn.BatchNorm1d, "images": nn.BatchNorm2d, "with activation": activated}[kind](4)
    with torch.no_grad():
        made.weight.copy_(numbers(4, seed=8))
        made.bias.copy_(numbers(4, seed=9))
    return made.double()


def activated(channels: int) -> nn.Module:
    return BatchNormAct2d(channels, act_layer=nn.SiLU)


def batchnorm_inputs() -> dict[str, list[Tensor]]:
    """Three batches of each: two to train on, one to evaluate; means and scales differ by channel and row."""
    vectors = [3 * numbers(11, 4, seed=s) * (1 + numbers(11, 1, seed=s + 50)) + 2 for s in (20, 21, 22)]
    images = [numbers(11, 4, 3, 5, seed=s) * (1 + numbers(11, 1, 1, 1, seed=s + 50)) - 1 for s in (30, 31, 32)]
    return {"vectors": vectors, "images": images, "with activation": images}


def through_batchnorm(module: nn.Module, batches: list[Tensor]) -> dict[str, Any]:
    outputs, gradients = [], []
    for x in batches[:2]:
        x = x.clone().requires_grad_()
        y = module(x)
        (y.exp().sum() + (y * y.roll(1, 1)).sum()).backward()
        outputs.append(y.detach())
        gradients.append(x.grad)
    module.eval()
    return {
        "outputs": outputs,
        "gradients": gradients,
        "parameters": {name: p.grad for name, p in module.named_parameters()},
        "buffers": dict(module.named_buffers()),
        "evaluated": module(batches[2]).detach(),
    }


# What must hold. ----------------------------------------------------------------------------------------------------


class Alone:
    """An engine of one process, as far as the functions above use one."""

    rank, world_size = 0, 1

    def setup(self, module: nn.Module, optimizer: Any) -> tuple[nn.Module, Any]:
        return module, optimizer

    def join_processes(self, module: nn.Module) -> nn.Module:
        return module

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def mean(self, value: Tensor) -> Tensor:
        return value


@pytest.fixture(scope="module", params=[2, 4])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp(f"world{request.param}")
    return run_processes(everything, request.param, folder)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_of_info_nce(found: list[dict[str, Any]], name: str) -> None:
    z = joined_projections().requires_grad_()
    loss, top1 = info_nce(z, TEMPERATURE, decoupled=LOSSES[name])
    loss.backward()
    assert z.grad is not None
    for rank, result in enumerate(found):
        mine = result["contrast"][name]
        torch.testing.assert_close(mine["loss"], loss.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(mine["top1"], top1)
        expected = torch.cat([view.chunk(len(found))[rank] for view in z.grad.chunk(2)])
        torch.testing.assert_close(mine["gradient"], expected, rtol=1e-10, atol=1e-12)
    assert len({float(r["contrast"][name]["own_loss"]) for r in found}) == len(found)  # they did see different anchors


def test_training_steps_of_a_wrapped_network(found: list[dict[str, Any]]) -> None:
    alone = train(Alone())  # type: ignore[arg-type]
    for result in found:
        torch.testing.assert_close(result["train"]["losses"], alone["losses"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(result["train"]["gradients"], alone["gradients"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(result["train"]["state"], alone["state"], rtol=1e-4, atol=1e-5)
    assert all(float(g.abs().max()) > 1e-3 for g in alone["gradients"].values())


def test_chunks_over_processes_give_the_joint_batch_s_gradient(found: list[dict[str, Any]]) -> None:
    alone = simclr_gradient(Alone(), chunk_size=None)  # type: ignore[arg-type]
    for result in found:
        torch.testing.assert_close(result["chunks"], alone, rtol=1e-4, atol=1e-6)
    assert all(float(g.abs().max()) > 1e-3 for g in alone.values())


@pytest.mark.parametrize("kind", ["vectors", "images", "with activation"])
def test_batchnorm_is_that_of_the_joint_batch(found: list[dict[str, Any]], kind: str) -> None:
    batches = batchnorm_inputs()[kind]
    expected = through_batchnorm(nn.Sequential(batchnorm(kind)), batches)
    results = [r["normalise"][kind] for r in found]
    exact = {"rtol": 1e-9, "atol": 1e-9}
    for key in ("outputs", "gradients"):
        joined = [torch.cat([r[key][batch] for r in results]) for batch in range(2)]
        torch.testing.assert_close(joined, expected[key], **exact)
    for name, gradient in expected["parameters"].items():
        torch.testing.assert_close(sum(r["parameters"][name] for r in results), gradient, **exact)
    for result in results:
        torch.testing.assert_close(result["buffers"], expected["buffers"], **exact)
    torch.testing.assert_close(torch.cat([r["evaluated"] for r in results]), expected["evaluated"], **exact)
    # Statistics of a process's own share would have been others.
    own = [batches[0][bounds(rank, len(found), len(batches[0]))] for rank in range(len(found))]
    assert not torch.allclose(own[0].mean(), own[1].mean(), rtol=0.05)


def test_machines_that_see_different_folders_are_refused(found: list[dict[str, Any]]) -> None:
    for result in found:
        assert "checkpoints of different steps; with several machines" in result["apart"]["said"]
        assert result["apart"]["said"].endswith(f"(3 and {2 + len(found)})")


def test_all_processes_come_to_one_answer(found: list[dict[str, Any]]) -> None:
    for result in found:
        assert result["agree"]["any"] == [True, False, True, True]
        assert float(result["agree"]["mean"]) == pytest.approx((len(found) - 1) / 2)


@pytest.mark.parametrize(("spoilt", "cause"), [("loss", "inf"), ("gradient", "the gradient's norm is nan")])
def test_numbers_of_one_process_stop_all_and_the_first_one_speaks(
    found: list[dict[str, Any]], spoilt: str, cause: str
) -> None:
    for rank, result in enumerate(found):
        stopped = result["stop"][spoilt]
        assert " at step 3 (epoch 2 of 2)" in stopped["said"]
        assert cause in stopped["said"]
        assert "step-00000003) is intact" in stopped["said"]
        assert stopped["speaks"] is (rank == 0)
        assert stopped["failure"]["step"] == 3
        assert len(stopped["failure"]["images"]) == 16  # of the joint batch


def test_a_jump_in_one_process_sends_all_back_to_the_same_step(found: list[dict[str, Any]]) -> None:
    for result in found:
        jump = result["jump"]
        assert jump["left_out"] == list(range(JUMP - 9, JUMP + 1))
        assert jump["calls"] == 24 + (JUMP - 9)  # up to the jump, once more to what is left out, and on after it
        torch.testing.assert_close(jump["weights"], found[0]["jump"]["weights"], rtol=0, atol=0)


def test_joining_keeps_weights_statistics_and_what_is_frozen() -> None:
    from twoviews.model.resnet50 import freeze  # here, as the processes have no use for timm

    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, eps=1e-3, momentum=0.3))
    module(torch.randn(5, 3))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    freeze(module)
    joint = join_batchnorm(module)[1]  # type: ignore[index]
    assert isinstance(joint, JointBatchNorm)
    assert (joint.eps, joint.momentum, joint.training) == (1e-3, 0.3, False)
    assert not any(p.requires_grad for p in joint.parameters())
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)


# The real command. --------------------------------------------------------------------------------------------------


def pretrain(images: Path, out: Path, run: Callable[[list[str]], object] = main) -> dict[str, Any]:
    command = ["pretrain", str(images), "--epochs", "1", "--warmup-epochs", "0", "--batch-size", "16"]
    command += ["--image-size", "16", "--backbone", "resnet18_w16", "--device", "cpu", "--precision", "float32"]
    command += ["--threads", "1", "--out", str(out), "--cache", str(out.parent / f"{out.name}-cache")]
    done = run_forked(command, out.parent, {**os.environ, "OMP_NUM_THREADS": "1"}, timeout=200, run=run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("pretrain: 1 epochs") == 1, done.stdout  # one process speaks
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 1
    return dict(rows[0])


def test_pretraining_under_torchrun_is_pretraining(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = tmp_path / "pictures"
    (images / "unlabeled").mkdir(parents=True)
    for i in range(32):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((20, 20)).save(images / "unlabeled" / f"{i:02d}.png")
    one = pretrain(images, tmp_path / "one")
    two = pretrain(images, tmp_path / "two", partial(torchrun, world=2))
    assert two["step"] == one["step"] == 2
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert two["contrastive_top1"] == pytest.approx(one["contrastive_top1"], abs=0.05)
    assert two["effective_rank"] == pytest.approx(one["effective_rank"], rel=1e-2)

"""Checkpoints: what is saved comes back to the bit, and what is damaged is noticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from twoviews.errors import CheckpointError, ResourceError
from twoviews.settings import TrainingSettings
from twoviews.trainers import checkpoint
from twoviews.trainers.checkpoint import State, checkpoints, load_latest, save_checkpoint
from twoviews.trainers.optimizer import build_optimizer


def network(seed: int, width: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    net(torch.zeros(2, 3, 6, 6))
    return net.to(memory_format=torch.channels_last)


def pair(kind: Any, seed: int = 0) -> tuple[nn.Module, Optimizer]:
    net = network(seed)
    return net, build_optimizer(net, TrainingSettings(optimizer=kind, base_lr=0.1))


def steps(net: nn.Module, optimizer: Optimizer, count: int, first: int = 0) -> None:
    for step in range(first, first + count):
        torch.manual_seed(100 + step)
        x = torch.randn(8, 3, 6, 6).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": v for i, values in state.items() for k, v in values.items() if isinstance(v, Tensor)}


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lars"])
def test_weights_momentum_and_state_come_back(kind: Any, tmp_path: Path) -> None:
    net, optimizer = pair(kind)
    steps(net, optimizer, 3)
    saved = State(3, {"loss": 0.1 + 0.2}, {"epoch": 1, "val_top1": 1 / 3}, {"scale": 65536.0}, 17)
    best = {name: tensor + 1 for name, tensor in net.state_dict().items()}
    save_checkpoint(tmp_path, net, optimizer, saved, best)

    other, other_optimizer = pair(kind, seed=1)
    state, best_weights, damages = load_latest(tmp_path, other, other_optimizer)
    assert state == saved
    assert damages == []
    exact = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(dict(other.state_dict()), dict(net.state_dict()), **exact)
    torch.testing.assert_close(best_weights, best, **exact)
    assert optimizer_tensors(optimizer)
    torch.testing.assert_close(optimizer_tensors(other_optimizer), optimizer_tensors(optimizer), **exact)

    # Both go on alike, to the bit: nothing that a step needs was left behind.
    steps(net, optimizer, 3, first=3)
    steps(other, other_optimizer, 3, first=3)
    torch.testing.assert_close(dict(other.state_dict()), dict(net.state_dict()), **exact)


def test_momentum_keeps_the_layout_of_its_weight(tmp_path: Path) -> None:
    net, optimizer = pair("sgd")
    steps(net, optimizer, 1)
    save_checkpoint(tmp_path, net, optimizer, State(1))
    other, other_optimizer = pair("sgd", seed=1)
    load_latest(tmp_path, other, other_optimizer)
    weight = next(other.parameters())
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert other_optimizer.state[weight]["momentum_buffer"].stride() == weight.stride()


def test_without_a_checkpoint_a_run_begins_at_step_0(tmp_path: Path) -> None:
    net, optimizer = pair("sgd")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state, best, damages = load_latest(tmp_path / "checkpoints", net, optimizer)
    assert (state, best, damages) == (State(), None, [])
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


def three(folder: Path) -> list[dict[str, Tensor]]:
    """Checkpoints of steps 1, 2 and 3; the weights at each."""
    net, optimizer = pair("sgd")
    weights = []
    for step in (1, 2, 3):
        steps(net, optimizer, 1, first=step)
        save_checkpoint(folder, net, optimizer, State(step))
        weights.append({k: v.clone() for k, v in net.state_dict().items()})
    return weights


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    three(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    names = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert sorted(p.name for p in (tmp_path / "step-00000003").iterdir()) == names


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


DAMAGES: dict[str, Callable[[Path], None]] = {"flip": flip, "cut": cut, "remove": Path.unlink}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_damaged_one_is_noticed_and_the_one_before_is_used(tmp_path: Path, file: str, damage: str) -> None:
    weights = three(tmp_path)
    DAMAGES[damage](tmp_path / "step-00000003" / file)
    net, optimizer = pair("sgd", seed=9)
    state, _, damages = load_latest(tmp_path, net, optimizer)
    assert state.step == 2
    assert len(damages) == 1
    assert "step-00000003" in damages[0]
    if file != "manifest.json":
        assert file in damages[0]
    torch.testing.assert_close(dict(net.state_dict()), weights[1], rtol=0, atol=0)


def test_none_whole_is_an_error_that_says_so(tmp_path: Path) -> None:
    three(tmp_path)
    for path in checkpoints(tmp_path):
        flip(path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"No checkpoint .* is whole: .*00000003.*00000002.*--new"):
        load_latest(tmp_path, *pair("sgd"))
    assert CheckpointError.exit_code == 4


def test_leftovers_of_a_crash_are_swept(tmp_path: Path) -> None:
    three(tmp_path)
    shutil.copytree(tmp_path / "step-00000003", tmp_path / ".tmp-step-00000009-123")
    state, _, _ = load_latest(tmp_path, *pair("sgd"))
    assert state.step == 3
    assert not list(tmp_path.glob(".tmp-*"))


def test_another_model_s_checkpoint_is_refused(tmp_path: Path) -> None:
    three(tmp_path)
    wider = network(0, width=7)
    with pytest.raises(CheckpointError, match=r"belongs to another model .*--new"):
        load_latest(tmp_path, wider, build_optimizer(wider, TrainingSettings()))


def test_a_full_disk_leaves_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = three(tmp_path)

    def full(path: Path, content: bytes) -> None:
        if path.name == "optimizer.safetensors":
            raise ResourceError(f"Could not write {path}: No space left on device.")
        path.write_bytes(content)

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    net, optimizer = pair("sgd")
    with pytest.raises(ResourceError, match="No space left"):
        save_checkpoint(tmp_path, net, optimizer, State(4))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000002", "step-00000003"]
    load_latest(tmp_path, net, optimizer)
    torch.testing.assert_close(dict(net.state_dict()), weights[2], rtol=0, atol=0)


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    three(tmp_path)
    net, optimizer = pair("sgd", seed=4)
    save_checkpoint(tmp_path, net, optimizer, State(3))
    other, other_optimizer = pair("sgd", seed=5)
    load_latest(tmp_path, other, other_optimizer)
    torch.testing.assert_close(dict(other.state_dict()), dict(net.state_dict()), rtol=0, atol=0)

"""Checkpoints: what is saved comes back to the bit, and what is damaged is noticed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from twoviews import disk
from twoviews.errors import CheckpointError, ResourceError
from twoviews.settings import TrainingSettings
from twoviews.trainers.checkpoint import (
    State,
    checkpoints,
    load_latest,
    require_room,
    save_checkpoint,
    settle,
)
from twoviews.trainers.manifest import verify
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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LATEST", "step-00000002", "step-00000003"]
    assert (tmp_path / "LATEST").read_text() == "step-00000003\n"
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


def test_another_model_s_checkpoint_is_refused(tmp_path: Path) -> None:
    three(tmp_path)
    wider = network(0, width=7)
    with pytest.raises(CheckpointError, match=r"belongs to another model .*--new"):
        load_latest(tmp_path, wider, build_optimizer(wider, TrainingSettings()))


def fail_from(call: int, error: int, monkeypatch: pytest.MonkeyPatch, *, once: bool = False) -> list[str]:
    """Let the disk fail from its ``call``-th call on (or at it alone); the calls made so far."""
    calls: list[str] = []

    def before(name: str, path: Path) -> None:
        calls.append(f"{name} {path.name}")
        if len(calls) - 1 == call or (len(calls) > call and not once):
            if name == "write" and path.exists():
                path.write_bytes(b"half")  # what a full disk leaves
            raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(disk, "before", before)
    monkeypatch.setattr(disk, "pause", lambda seconds: None)
    return calls


SAVE_CALLS = 40  # more than one save makes


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_whatever_call_fails_for_good_the_earlier_ones_stay(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        three(tmp_path / "whole")
        calls = fail_from(SAVE_CALLS, error, patch)
        save_checkpoint(tmp_path / "whole", *pair("sgd", seed=3), State(4))
    assert 20 < len(calls) < SAVE_CALLS
    for call in range(len(calls)):
        folder = tmp_path / str(call)
        weights = three(folder)
        net, optimizer = pair("sgd", seed=3)
        with monkeypatch.context() as patch:
            fail_from(call, error, patch)
            with pytest.raises(ResourceError, match=re.escape(os.strerror(error))):
                save_checkpoint(folder, net, optimizer, State(4))
        other, other_optimizer = pair("sgd", seed=9)
        state, _, damages = load_latest(folder, other, other_optimizer)
        assert damages == []
        if state.step == 4:
            torch.testing.assert_close(dict(other.state_dict()), dict(net.state_dict()), rtol=0, atol=0)
        else:
            assert state.step == 3
            torch.testing.assert_close(dict(other.state_dict()), weights[2], rtol=0, atol=0)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failure_that_passes_is_tried_again(error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in range(SAVE_CALLS):
        folder = tmp_path / str(call)
        three(folder)
        net, optimizer = pair("sgd", seed=3)
        with monkeypatch.context() as patch:
            fail_from(call, error, patch, once=True)
            save_checkpoint(folder, net, optimizer, State(4))
        assert sorted(p.name for p in folder.iterdir()) == ["LATEST", "step-00000003", "step-00000004"]
        assert verify(folder / "step-00000004") is None


def test_the_message_says_what_is_needed_and_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, optimizer = pair("sgd")
    fail_from(2, errno.ENOSPC, monkeypatch)
    with pytest.raises(
        ResourceError, match=r"No space left on device \(\d.* needed, .* free\)\. The checkpoint before"
    ):
        save_checkpoint(tmp_path, net, optimizer, State(1))
    assert ResourceError.exit_code == 6


def test_a_run_does_not_begin_where_its_checkpoints_have_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, _ = pair("sgd")
    weights = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    folder = tmp_path / "run" / "checkpoints"  # not made yet
    for optimizer, best, each in (("sgd", False, 2), ("sgd", True, 3), ("adamw", True, 4)):
        monkeypatch.setattr(disk, "room", lambda path, each=each: 3 * each * weights)
        require_room(folder, net, optimizer, keeps_best=best)
        monkeypatch.setattr(disk, "room", lambda path, each=each: 3 * each * weights - 1)
        with pytest.raises(ResourceError, match=r"are free: free some space .*--out"):
            require_room(folder, net, optimizer, keeps_best=best)
    assert not folder.exists()


def test_a_checkpoint_that_can_not_be_read_back_is_no_reason_to_delete_the_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(tmp_path)
    net, optimizer = pair("sgd")

    def before(name: str, path: Path) -> None:
        if name == "flush_folder" and path == tmp_path:
            flip(tmp_path / "step-00000004" / "model.safetensors")  # a disk that lies

    monkeypatch.setattr(disk, "before", before)
    with pytest.raises(ResourceError, match=r"can't be read back .*model.safetensors has changed"):
        save_checkpoint(tmp_path, net, optimizer, State(4))
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000002", "step-00000003", "step-00000004"]
    state, _, damages = load_latest(tmp_path, net, optimizer)
    assert state.step == 3
    assert len(damages) == 1


def test_a_pointer_to_a_checkpoint_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    three(tmp_path)
    (tmp_path / "LATEST").write_text("step-00000099\n")
    assert load_latest(tmp_path, *pair("sgd"))[0].step == 3


def test_a_file_that_the_manifest_does_not_name_is_noticed(tmp_path: Path) -> None:
    three(tmp_path)
    newest = tmp_path / "step-00000003"
    shutil.copy(newest / "model.safetensors", newest / "best.safetensors")
    state, best, damages = load_latest(tmp_path, *pair("sgd"))
    assert (state.step, best) == (2, None)
    assert "best.safetensors is not in its manifest" in damages[0]


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    three(tmp_path)
    newest = tmp_path / "step-00000003"
    files = {path: path.read_bytes() for path in sorted(newest.iterdir())}
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *map(len, files.values())])
    for position in rng.integers(0, 8 * offsets[-1], 1000):
        number = int(np.searchsorted(offsets, position // 8, side="right")) - 1
        path, content = list(files.items())[number]
        flipped = bytearray(content)
        flipped[position // 8 - offsets[number]] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        assert verify(newest) is not None, (path, position)
        path.write_bytes(content)
    # A manifest is short beside the weights: each of its bits.
    manifest = newest / "manifest.json"
    for bit in range(8 * len(files[manifest])):
        flipped = bytearray(files[manifest])
        flipped[bit // 8] ^= 1 << (bit % 8)
        manifest.write_bytes(flipped)
        assert verify(newest) is not None, bit
    manifest.write_bytes(files[manifest])
    for _ in range(200):
        path = list(files)[rng.integers(len(files))]
        path.write_bytes(files[path][: rng.integers(len(files[path]))])
        assert verify(newest) is not None, path
        path.write_bytes(files[path])
    assert verify(newest) is None


def test_the_same_step_is_not_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, optimizer = pair("sgd")
    save_checkpoint(tmp_path, net, optimizer, State(3))
    calls = fail_from(0, errno.EIO, monkeypatch)
    save_checkpoint(tmp_path, net, optimizer, State(3))
    assert calls == []
    monkeypatch.undo()
    flip(tmp_path / "step-00000003" / "model.safetensors")
    save_checkpoint(tmp_path, net, optimizer, State(3))
    assert verify(tmp_path / "step-00000003") is None


def test_what_a_stop_right_after_a_save_left_undone_is_done_at_the_resume(tmp_path: Path) -> None:
    three(tmp_path)
    (tmp_path / "LATEST").write_text("step-00000002\n")
    shutil.copytree(tmp_path / "step-00000002", tmp_path / "step-00000001")
    settle(tmp_path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LATEST", "step-00000002", "step-00000003"]
    assert (tmp_path / "LATEST").read_text() == "step-00000003\n"
